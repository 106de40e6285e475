"""Cosine similarities within one batch of embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unit_rows(embeddings: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays zero, with a zero gradient.

    Args:
        embeddings: ``(..., N, D)`` floats.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    if not embeddings.shape[-1]:
        return embeddings
    # by a power of two near the largest entry, so that no square overflows or vanishes
    exponent = torch.frexp(embeddings.detach().abs().amax(-1, keepdim=True)).exponent.to(embeddings)
    most = math.log2(torch.finfo(embeddings.dtype).max) - 2
    scaled = embeddings * torch.exp2(-exponent.clamp(-most, most))
    squared = scaled.square().sum(-1, keepdim=True)
    there = squared > 0
    return scaled * torch.where(there, torch.where(there, squared, 1).rsqrt(), 0)


def off_diagonal(matrix: Tensor) -> Tensor:
    """``(..., N, N - 1)``: a square matrix without its diagonal, as a view where it can be one.

    Args:
        matrix: ``(..., N, N)``.

    Example:
        >>> off_diagonal(torch.arange(9).reshape(3, 3))
        tensor([[1, 2],
                [3, 5],
                [6, 7]])
    """
    n = matrix.shape[-1]
    if n < 2:
        return matrix[..., :0]
    shifted = matrix.flatten(-2)[..., 1:].unflatten(-1, (n - 1, n + 1))
    return shifted[..., :-1].reshape(*matrix.shape[:-1], n - 1)


def similarities(embeddings: Tensor) -> Tensor:
    """``(..., N, N - 1)`` cosines of each row with every other, in the order of the rows.

    Args:
        embeddings: ``(..., N, D)`` floats; they need not be normalised.

    Cost: O(N^2 D) time, O(N^2) memory.
    """
    units = unit_rows(embeddings)
    return off_diagonal(units @ units.mT)


def same_class(targets: Tensor) -> Tensor:
    """``(..., N, N - 1)`` booleans of ``(..., N)`` classes: whether each other row is of the row's own class."""
    return off_diagonal(targets[..., :, None] == targets[..., None, :])
