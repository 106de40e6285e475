"""Sums of many numbers by where they belong, to the last digits also in float32."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**14
"""Numbers that float32 may add up one after the other: of 2**24 ones the next one is lost."""


def sums_at(index: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """``(T, K)``: what there is at the start, and what is added at each place; differentiable in the values.

    float32, which devices without float64 have, is summed in blocks of rows, and then over the blocks in pairs.

    Args:
        index: ``(T, N)`` places from 0 to K - 1.
        values: ``(T, N)``, or a shape that spreads to it.
        start: ``(T, K)``.

    Cost:
        O(T N + T K).

    Example:
        >>> sums_at(torch.tensor([[0, 2, 0]]), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(1, 3))
        tensor([[4., 0., 2.]])
    """
    values, (rows, places) = values.expand(index.shape), (index.shape[1], start.shape[1])
    block = max(_BLOCK, places)
    if values.dtype == torch.float64 or rows <= block:
        return start.scatter_add(1, index, values)
    blocks = -(-rows // block)
    first = torch.arange(rows, device=index.device).div(block, rounding_mode="floor") * places
    found = values.new_zeros(len(index), blocks * places).scatter_add(1, index + first, values)
    return start + found.view(len(index), blocks, places).sum(1)
