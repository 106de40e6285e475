"""Numbers of many tensors that the host waits for once, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metricgrad.precision import wide


def read(numbers: Sequence[Tensor]) -> list[float]:
    """Of 0-d tensors; where one is on another device than the host, it waits for all at once."""
    if all(number.device.type == "cpu" for number in numbers):
        return [number.item() for number in numbers]
    return wide(torch.stack([number.to(numbers[0].device) for number in numbers])).tolist()


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """0-d: the length of each."""
    return [torch.linalg.vector_norm(tensor) for tensor in tensors]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """0-d."""
    return torch.dot(a.flatten(), b.flatten())
