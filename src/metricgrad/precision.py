"""How wide floats are: float64 where a device has it, and what a cast of a module leaves as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metricgrad.outside_graphs import transformed

WITHOUT_FLOAT64 = {"mps"}
"""Kinds of devices whose widest floats are float32."""
_HALF = (torch.float16, torch.bfloat16)


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


def place_for(found: Tensor, grad: Tensor) -> Tensor | None:
    """What a gradient is written into in the dtype of ``found``; None where many are asked for at once, as by vmap."""
    return None if transformed(grad) else torch.empty_like(found)


class FullPrecision(nn.Module):
    """A module that keeps its precision when it is cast: half precision is for networks, and losses compute in float32.

    What is learned stays in float32 at least, in the modules within too. Buffers in float64 stay as wide as the device
    allows: they hold what a training has seen, and a class's number does not fit into bfloat16.
    """

    _wide: frozenset[str] = frozenset()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def widely(x: Tensor) -> Tensor:
            y = fn(x)
            return x.to(y.device) if y.dtype in _HALF else y

        self._wide |= {name for name, x in self._buffers.items() if x is not None and x.dtype == torch.float64}
        device = fn(torch.empty(0)).device
        kept = {name: self.get_buffer(name).to(device, wide_dtype(device)) for name in self._wide}
        self._buffers.update(kept)
        super()._apply(widely, recurse)
        self._buffers.update(kept)
        return self
