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
    """A module whose buffers in float64 stay as wide as the device allows, whatever dtype the module is cast to.

    They hold what a training has seen, not what a network computes with: a class's number does not fit into bfloat16.
    """

    _wide: frozenset[str] = frozenset()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._wide |= {name for name, x in self._buffers.items() if x is not None and x.dtype == torch.float64}
        device = fn(torch.empty(0)).device
        kept = {name: self.get_buffer(name).to(device, wide_dtype(device)) for name in self._wide}
        self._buffers.update(kept)
        super()._apply(fn, recurse)
        self._buffers.update(kept)
        return self
