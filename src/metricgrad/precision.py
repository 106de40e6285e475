"""The widest floats of a device: float64, but for MPS, which has none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

WITHOUT_FLOAT64 = {"mps"}
"""Kinds of devices whose widest floats are float32."""


def wide_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it.

    Example:
        >>> wide_dtype(torch.device("cpu")), wide_dtype(torch.device("mps"))
        (torch.float64, torch.float32)
    """
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def wide(x: Tensor) -> Tensor:
    """The tensor in :func:`wide_dtype` of its device."""
    return x.to(wide_dtype(x.device))


class WideBuffers(nn.Module):
    """A module whose buffers in float64 become float32 where it is moved to a device without float64."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        if fn(torch.empty(0)).device.type in WITHOUT_FLOAT64:
            for name, buffer in self._buffers.items():
                if buffer is not None and buffer.dtype == torch.float64:
                    self._buffers[name] = buffer.float()
        return super()._apply(fn, recurse)
