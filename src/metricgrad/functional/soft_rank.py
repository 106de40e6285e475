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
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.isotonic import isotonic_starts
from metricgrad.functional.pair_sums import compute_dtype

Regularisation = Literal["quadratic", "entropic"]


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
    rows = x.to(compute_dtype(x)).reshape(-1, x.shape[-1])
    spread = rows.std(-1, correction=0, keepdim=True)
    label, size, base, top, factor = cast(
        tuple[Tensor, ...], _Blocks.apply(rows.detach(), spread.detach(), float(strength), regularisation)
    )
    slope = factor / torch.where(factor > 0, spread, 1)
    moved = (rows - top) * slope
    mean = cast(Callable[..., Tensor], _BlockMean.apply)
    if regularisation == "quadratic":
        ranks = base + (moved - mean(moved, label, size))
    else:
        share = moved.exp()
        ranks = base * share / mean(share, label, size)
    return ranks.reshape(x.shape).to(x.dtype)


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


class _Blocks(torch.autograd.Function):
    """The blocks of a projection: integers and constants, hence without a gradient."""

    @staticmethod
    def forward(x: Tensor, spread: Tensor, strength: float, regularisation: Regularisation) -> tuple[Tensor, ...]:
        if not bool(spread.isfinite().all()):
            raise MetricgradError("x is not finite, or its spread is not; leave such entries out")
        n = x.shape[1]
        ordered, order = x.sort(1)
        varies = ordered[:, :1] < ordered[:, -1:]
        quadratic = regularisation == "quadratic"
        places = np.arange(1.0, n + 1)
        kappa = math.sqrt((n * n - 1) / 12) if quadratic else float(np.log(places).std())
        factor = torch.where(varies, kappa / strength, 0.0).to(x)
        z = ((ordered - ordered[:, :1]) * (factor / torch.where(varies, spread, 1))).cpu().numpy().astype(np.float64)
        if quadratic:
            starts = isotonic_starts((z - places).ravel(), np.ones(z.size), n, "mean")
        else:
            starts = isotonic_starts(z.ravel(), np.tile(places, len(z)), n, "log_ratio")
        size = np.diff(starts, append=z.size)
        number = np.repeat(np.arange(len(starts)), size)
        middle = starts % n + (size + 1) / 2
        index, mean_rank = torch.from_numpy(number).to(x.device), torch.from_numpy(middle).to(x)
        last = torch.from_numpy(starts + size - 1).to(x.device)
        label = torch.empty_like(order).scatter_(1, order, index.view_as(order))
        top = ordered.flatten()[last]
        return label, torch.from_numpy(size).to(x), mean_rank[label], top[label], factor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return None, None, None, None


class _BlockMean(torch.autograd.Function):
    """Each entry's block mean: linear and its own adjoint, so every derivative is the same operation."""

    @staticmethod
    def forward(x: Tensor, label: Tensor, size: Tensor) -> Tensor:
        sums = torch.zeros_like(size).scatter_add_(0, label.flatten(), x.flatten())
        return (sums / size)[label]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return cast(Tensor, _BlockMean.apply(grads[0], *ctx.saved_tensors)), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return cast(Tensor, _BlockMean.apply(tangents[0], *ctx.saved_tensors))
