"""Numbers of many tensors that the host waits for once, however many there are."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.decoding import wide


def together(numbers: list[Tensor]) -> Tensor:
    """``(n,)`` of 0-d tensors, on the device of the first."""
    return torch.stack([wide(number).to(numbers[0].device) for number in numbers])


def length(tensors: list[Tensor]) -> float:
    """Of all of them as one vector."""
    return float(together([tensor.norm() for tensor in tensors]).norm()) if tensors else 0.0


def dot(a: Tensor, b: Tensor) -> Tensor:
    """0-d."""
    return torch.dot(a.flatten(), b.flatten())
