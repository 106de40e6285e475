"""Numbers of many tensors that the host waits for once, however many there are."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.decoding import wide


def together(numbers: list[Tensor]) -> Tensor:
    """``(n,)`` of 0-d tensors, on the device of the first."""
    return wide(torch.stack([number.to(numbers[0].device) for number in numbers]))


def norm(tensors: list[Tensor]) -> Tensor:
    """0-d: the length of all of them as one vector."""
    return together([tensor.norm() for tensor in tensors]).norm() if tensors else torch.zeros(())


def dot(a: Tensor, b: Tensor) -> Tensor:
    """0-d."""
    return torch.dot(a.flatten(), b.flatten())
