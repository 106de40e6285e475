"""Ranks with a gradient, by projection on the permutahedron, and ranks without one.

The permutahedron is the convex hull of all orders of 1, ..., n. The scores, spread out as ranks are, are projected on it:
scores far enough apart land on a corner, which is their hard ranks, and scores close together share a face. A face is a
block of neighbours (:mod:`metricgrad.functional.isotonic`); once the blocks are known, a rank is the block's mean rank
plus what the score differs from the block's mean. That expression is what gradients are taken of, any number of times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.isotonic import isotonic_starts
from metricgrad.functional.pair_sums import compute_dtype

Regularisation = Literal["quadratic", "entropic"]

_FAR = 1e9


def soft_rank(x: Tensor, strength: float = 1.0, regularisation: Regularisation = "quadratic") -> Tensor:
    r"""Ranks along the last axis, ascending from 1, differentiable in ``x``.

    With :math:`z = \kappa (x - \bar x) / (\sigma_x \, \mathrm{strength})`, where :math:`\kappa` gives z the spread of the
    ranks at strength 1:

    .. math::
        \text{quadratic:} \quad \arg\min_{r \in P} \|r - z\|^2 \qquad
        \text{entropic:} \quad \arg\min_{r \in P} \mathrm{KL}(r, e^z)

    Use it in a loss that reads ranks. x is standardised inside and the gradient flows through that, so a strength means
    the same for scores of any scale: below 1, evenly spread scores get their hard ranks; the larger it is, the more
    neighbours share a block and have a gradient towards each other; towards infinity all ranks are the mean rank.
    Where scores are so far apart that each is a block of its own, the gradient is zero: raise the strength.

    Args:
        x: ``(..., n)`` floating point, finite.
        strength: positive; how much scores near each other are blurred.
        regularisation: ``"quadratic"`` is piecewise linear in z. ``"entropic"`` is smoother inside a block, and blurs
            low ranks more than high ones, because it compares ranks by their ratio.

    Returns:
        ``(..., n)`` in the dtype of ``x``; computed in float64 (float32 on MPS). Ranks sum to n (n + 1) / 2, equal
        scores have equal ranks, and a constant row has the rank (n + 1) / 2 with a zero gradient. Differentiable any
        number of times, except where two blocks touch.

        Cost: O(n log n) time for the sort and O(n) for the rest, O(n) memory. The blocks are found on the CPU.

    Raises:
        MetricgradError: for scores that are not finite floats, or settings out of range.

    Example:
        >>> import torch
        >>> soft_rank(torch.tensor([3.0, 1.0, 1.0, 90.0]), strength=0.1)
        tensor([3.0000, 1.5000, 1.5000, 4.0000])

    References:
        M. Blondel, O. Teboul, Q. Berthet, J. Djolonga, "Fast Differentiable Sorting and Ranking", ICML 2020, section 4.
        Deviations: x is standardised; ranks ascend; the entropic one is the KL projection on the ranks' own permutahedron
        (theirs takes the logarithm of one on that of e^1, ..., e^n, whose ranks do not average ties).
    """
    _check(x)
    if not (isinstance(strength, (int, float)) and 0 < strength < math.inf):
        raise MetricgradError(f"strength is {strength!r}; expected a positive number")
    if regularisation not in ("quadratic", "entropic"):
        raise MetricgradError(f"regularisation is {regularisation!r}; expected 'quadratic' or 'entropic'")
    if x.numel() == 0:
        return x.clone()
    rows = x.reshape(-1, x.shape[-1])
    apply = cast(Callable[..., Tensor], _SoftRank.apply)
    return apply(rows, float(strength), regularisation == "quadratic").reshape(x.shape)


def hard_rank(x: Tensor) -> Tensor:
    """Ranks along the last axis, from 1, with the mean rank for equal values.

    Args:
        x: ``(..., n)`` of any real dtype.

    Returns:
        ``(..., n)`` float64 (float32 on MPS), without a gradient. Cost: O(n log n) time, O(n) memory.

    Example:
        >>> import torch
        >>> hard_rank(torch.tensor([10.0, 30.0, 10.0])).tolist()
        [1.5, 3.0, 1.5]
    """
    ordered, order = x.detach().sort(-1)
    first, last = equal_runs(ordered[..., 1:] != ordered[..., :-1])
    ranks = (first + last + 2).to(compute_dtype(x)) / 2
    return torch.zeros_like(ranks).scatter_(-1, order, ranks)


def equal_runs(changes: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place of each item's run of equals, from ``(..., n - 1)`` flags of a change."""
    place = torch.arange(changes.shape[-1] + 1, device=changes.device)
    edge = changes.new_ones((*changes.shape[:-1], 1))
    first = torch.where(torch.cat([edge, changes], -1), place, 0).cummax(-1).values
    end = torch.where(torch.cat([changes, edge], -1), place, len(place))
    return first, end.flip(-1).cummin(-1).values.flip(-1)


def _check(x: Tensor) -> None:
    if not x.is_floating_point():
        raise MetricgradError(f"x has dtype {x.dtype}; expected floating point: convert it with .float()")
    if x.ndim == 0:
        raise MetricgradError("x is a single number; expected at least one axis")


class _SoftRank(torch.autograd.Function):
    """``(B, n)`` soft ranks. Forward and context in one: a separate ``setup_context`` costs as much as 128 ranks do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float, quadratic: bool) -> Tensor:
        wide = compute_dtype(x)
        values = x.detach().to("cpu", torch.float64).numpy()
        found = _project(values, strength, quadratic)
        ranks, label, size, middle, factor = (torch.from_numpy(part).to(x.device) for part in found)
        ctx.quadratic = quadratic
        ctx.save_for_backward(x, label, size.to(wide), middle.to(wide), factor.to(wide))
        return ranks.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Written in differentiable operations, so that autograd can go on from here."""
        x, label, size, middle, factor = ctx.saved_tensors
        grad, rows = grads[0].to(size.dtype), x.to(size.dtype)

        def block_mean(values: Tensor) -> Tensor:
            sums = size.new_zeros(size.shape).scatter_add(0, label, values.flatten())
            return (sums / size).index_select(0, label).view(values.shape)

        centred = rows - rows.mean(1, keepdim=True)
        # rows that do not vary have the factor 0; their variance must not be divided by
        variance = torch.where(factor > 0, centred.square().mean(1, keepdim=True), 1)
        slope = factor * variance.rsqrt()
        if ctx.quadratic:
            to_z = grad - block_mean(grad)
        else:
            z = centred * slope
            highest = torch.full_like(size, -torch.inf).scatter_reduce(0, label, z.detach().flatten(), "amax")
            share = (z - highest.index_select(0, label).view_as(z)).exp()
            share = share / block_mean(share)
            pull = grad * middle.index_select(0, label).view_as(z) * share
            to_z = pull - share * block_mean(pull)
        along = (to_z * centred).mean(1, keepdim=True) / variance
        return (slope * (to_z - along * centred)).to(x.dtype), None, None


def _project(x: NDArray[np.float64], strength: float, quadratic: bool) -> tuple[NDArray[Any], ...]:
    """``(B, n)`` ranks; flat, each entry's block; each block's size and mean rank; ``(B, 1)`` kappa / strength, or 0."""
    rows, n = x.shape
    order = x.argsort(1)
    if rows > 1:
        order += np.arange(0, x.size, n)[:, None]
    order = order.ravel()
    z = x.ravel()[order].reshape(x.shape)
    varies = z[:, :1] < z[:, -1:]
    z -= z.mean(1, keepdims=True)
    variance = np.einsum("ij,ij->i", z, z)[:, None] / n
    if not np.isfinite(variance).all():
        raise MetricgradError("x is not finite, or its spread is not; leave such entries out")
    places = np.arange(1.0, n + 1)
    kappa = math.sqrt((n * n - 1) / 12) if quadratic else float(np.log(places).std())
    factor = np.where(varies, kappa / strength, 0.0)
    z *= factor / np.sqrt(np.where(varies, variance, 1.0))
    if max(-z.min(), z.max()) > _FAR:
        # no block spans a gap wider than n; a wider one only takes precision from the rest
        z = np.minimum(np.diff(z, prepend=z[:, :1]), n).cumsum(1)
    flat = z.ravel()
    if quadratic:
        starts = isotonic_starts((z - places).ravel(), np.ones(z.size), n, "mean")
    else:
        starts = isotonic_starts(flat, np.tile(places, rows), n, "log_ratio")
    size = np.diff(starts, append=z.size)
    middle = starts % n + (size + 1) / 2
    if quadratic:
        ordered = flat + np.repeat(middle - np.add.reduceat(flat, starts) / size, size)
    else:
        share = np.exp(flat - np.repeat(flat[starts + size - 1], size))
        ordered = share * np.repeat(middle * size / np.add.reduceat(share, starts), size)
    ranks, label = np.empty_like(flat), np.empty_like(order)
    ranks[order] = ordered
    label[order] = np.repeat(np.arange(len(starts)), size)
    return ranks.reshape(x.shape), label, size, middle, factor
