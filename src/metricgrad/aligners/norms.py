"""Lengths and inner products, 0-d each, of which :func:`metricgrad.on_host.read` reads many at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """0-d: the length of each."""
    return [torch.linalg.vector_norm(tensor) for tensor in tensors]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """0-d."""
    return torch.dot(a.flatten(), b.flatten())
