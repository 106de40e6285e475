"""Cosine similarities within one batch of embeddings."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from metricgrad.precision import place_for, wide, wide_dtype


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
    scaled = embeddings * _scale(embeddings)
    squared = scaled.square().sum(-1, keepdim=True)
    there = squared > 0
    return scaled * torch.where(there, torch.where(there, squared, 1).rsqrt(), 0)


def _scale(embeddings: Tensor) -> Tensor:
    """``(..., N, 1)`` powers of two, by which no square overflows or vanishes; 0 for a row of zeros."""
    most = torch.linalg.vector_norm(embeddings.detach(), torch.inf, dim=-1, keepdim=True)
    return (torch.frexp(most).mantissa / most).nan_to_num(0)  # beyond the dtype: its largest number is enough


def cosines(embeddings: Tensor) -> Tensor:
    r"""``(N, N)`` in float64 where the device has it, of ``(N, D)`` embeddings; 0 with a row of zeros.

    With u the rows at length 1, G the gradient in the cosines and :math:`h = (G + G^T) u`, the gradient in a row is
    :math:`(h - (h \cdot u) u) / |x|`, which takes a third of the kernels that its steps would.

    Example:
        >>> cosines(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        tensor([[1.0000, 0.8000],
                [0.8000, 1.0000]], dtype=torch.float64)
    """
    return cast(Tensor, _Cosines.apply(embeddings))


class _Cosines(torch.autograd.Function):
    """See :func:`cosines`; a backward pass that is differentiated goes through the steps."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        """The cosines."""
        ctx.save_for_backward(embeddings)
        ctx.units, ctx.per_length = _units(embeddings)
        return ctx.units @ ctx.units.mT

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """The embeddings' gradient."""
        (embeddings,), (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():
            units = unit_rows(wide(embeddings))
            return torch.autograd.grad(units @ units.mT, embeddings, grad, create_graph=True)[0]
        pulled = (grad + grad.mT) @ ctx.units
        along = (pulled[:, None] @ ctx.units[..., None])[..., 0]
        across = torch.addcmul(pulled, ctx.units, along, value=-1)
        return torch.mul(across, ctx.per_length, out=place_for(embeddings, grad)).to(embeddings.dtype)


def _units(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """``(N, D)`` rows of length 1, in float64 where the device has it, and ``(N, 1)`` one over their lengths or 0."""
    dtype = wide_dtype(embeddings.device)
    if embeddings.dtype != dtype:  # of narrower floats no square overflows or vanishes
        length = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True, dtype=dtype)
        per_length = length.reciprocal_().nan_to_num_(torch.nan, posinf=0.0)
        return embeddings * per_length, per_length
    scale = _scale(embeddings) if embeddings.shape[-1] else embeddings.new_zeros(len(embeddings), 1)
    scaled = embeddings * scale
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).clamp_(min=torch.finfo(dtype).tiny)
    return scaled / length, scale / length


def without_rounding(similar: Tensor) -> tuple[Tensor, float]:
    """Similarities of which those that differ by rounding alone are equal, and by how much others differ at least.

    Example:
        >>> without_rounding(torch.tensor([0.1 + 0.2, 0.3], dtype=torch.float64))[0].diff()
        tensor([0.], dtype=torch.float64)
    """
    digits = 12 if similar.dtype == torch.float64 else 6
    return similar.round(decimals=digits), 10.0**-digits


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
