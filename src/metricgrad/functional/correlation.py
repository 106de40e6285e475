"""Spearman's and Kendall's rank correlations: as statistics define them, and softened so that they have a gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.permutahedron import equal_runs
from metricgrad.functional.ranks import checked_scores, hard_rank, soft_rank
from metricgrad.precision import wide, wide_dtype


def spearman(a: Tensor, b: Tensor, soft: float | None = None) -> Tensor:
    """Correlation of the ranks along the last axis; ties have their mean rank.

    Use the soft one as an objective (its negative as a loss) in which ``b`` is what ``a`` shall be ordered by, and the
    hard one to judge the result.

    Args:
        a: ``(..., n)`` any real dtype; floating point and finite when soft.
        b: ``(..., n)`` any real dtype; leading axes broadcast. Nothing flows to it.
        soft: None for the hard correlation; else the ``strength`` of :func:`metricgrad.functional.soft_rank` for ``a``.

    Returns:
        ``(...)`` float64 (float32 on MPS). Where one side is constant: NaN when hard, as in SciPy; when soft, 0 with a
        zero gradient, so that one such row of a batch spoils no other. The soft one is differentiable in ``a`` any
        number of times.

        Cost: O(n log n) time, O(n) memory.

    Raises:
        MetricgradError: for sides of different length, or what ``soft_rank`` refuses.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([0.1, 0.4, 0.3]), torch.tensor([1, 2, 3])
        >>> float(spearman(a, b)), round(float(spearman(a, b, soft=1.0)), 4)
        (0.5, 0.6333)
    """
    _check_sides(a, b)
    ranks = hard_rank(a) if soft is None else soft_rank(wide(checked_scores(a)), soft)
    x, y = (side - side.mean(-1, keepdim=True) for side in (ranks, hard_rank(b)))
    power = x.square().sum(-1) * y.square().sum(-1)
    if soft is None:
        return _known((x * y).sum(-1) / power.sqrt(), a, b)
    return (x * y).sum(-1) * torch.where(power > 0, power, 1).rsqrt()


def kendall(a: Tensor, b: Tensor, soft: float | None = None) -> Tensor:
    r"""Kendall's tau-b along the last axis: concordant less discordant pairs, corrected for ties.

    Soft, a pair with :math:`b_i > b_j` counts :math:`\tanh((a_i - a_j) / (2 \, \mathrm{soft} \, \sigma_a))` in place
    of :math:`\pm 1`. Every pair then pulls, which Spearman's soft ranks do only within a block.

    Args:
        a: ``(..., n)`` any real dtype; floating point and finite when soft.
        b: ``(..., n)`` any real dtype; leading axes broadcast. Nothing flows to it.
        soft: None for the hard tau-b; else the softness in standard deviations of ``a``: positive; 0.1 is near hard.

    Returns:
        ``(...)`` float64 (float32 on MPS). Where one side is constant: NaN when hard, as in SciPy; when soft, 0 with a
        zero gradient. The soft one is differentiable in ``a`` any number of times.

        Cost: O(n log^2 n) time when hard, near-linear when soft (one row after the other); O(n) memory.

    Raises:
        MetricgradError: for sides of different length, or a softness that is not positive.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([0.1, 0.4, 0.3]), torch.tensor([1, 2, 3])
        >>> round(float(kendall(a, b)), 4), round(float(kendall(a, b, soft=0.01)), 4)
        (0.3333, 0.3333)
    """
    _check_sides(a, b)
    shape = torch.broadcast_shapes(a.shape, b.shape)
    a, b = a.expand(shape), b.detach().expand(shape)
    free_a, free_b = _untied_pairs(a), _untied_pairs(b)
    if soft is None:
        return _known(_excess(a.detach(), b) / (free_a * free_b).sqrt(), a, b)
    if not (isinstance(soft, (int, float)) and 0 < soft < math.inf):
        raise MetricgradError(f"soft is {soft!r}; expected a positive number, or None for the hard tau-b")
    checked_scores(a)
    varies = free_a * free_b > 0
    rows = wide(a)
    size = rows.detach().abs().amax(-1, keepdim=True) if rows.shape[-1] else rows
    rows = rows / torch.where(size > 0, size, 1)
    centred = rows - rows.mean(-1, keepdim=True)
    variance = torch.where(varies, centred.square().mean(-1), 1).unsqueeze(-1)
    scaled = torch.where(varies.unsqueeze(-1), centred * variance.rsqrt() / soft, 0).reshape(-1, shape[-1])
    order = hard_rank(b).reshape(scaled.shape)
    # sigmoid over the pairs with b_i > b_j; 2 sigmoid(z) - 1 = tanh(z / 2), and b's ties drop out of both sums
    counted = [dominance_sum(z, z, r[None], r[None]).sum() for z, r in zip(scaled, order, strict=True)]
    total = torch.stack(counted) if counted else scaled.sum(-1)
    excess = 2 * total.reshape(shape[:-1]) - free_b
    return torch.where(varies, excess, 0) / torch.where(varies, free_a * free_b, 1).sqrt()


def pair_counts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``(..., n)`` sides ``(...)`` each: concordant less discordant pairs, those that differ in b, and in a.

    Cost: O(n log^2 n).
    """
    return _excess(a, b), _untied_pairs(b), _untied_pairs(a)


def _known(values: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """NaN where a side holds one, which has no rank."""
    return torch.where(a.isnan().any(-1) | b.isnan().any(-1), torch.nan, values)


def _check_sides(a: Tensor, b: Tensor) -> None:
    check_tensor("a", a)
    check_tensor("b", b)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-1]:
        raise MetricgradError(f"a and b must have one last axis in common, got {tuple(a.shape)} and {tuple(b.shape)}")
    pairs = zip(reversed(a.shape), reversed(b.shape), strict=False)
    if any(i != j and 1 not in (i, j) for i, j in pairs):
        raise MetricgradError(f"a and b have leading axes that do not broadcast: {tuple(a.shape)} and {tuple(b.shape)}")


def _untied_pairs(values: Tensor) -> Tensor:
    """How many pairs along the last axis differ."""
    n = values.shape[-1]
    if n < 2:
        return torch.zeros(values.shape[:-1], dtype=wide_dtype(values.device), device=values.device)
    ordered = values.detach().sort(-1).values
    first, last = equal_runs(ordered[..., 1:] != ordered[..., :-1])
    return n * (n - 1) / 2 - wide(last - first).sum(-1) / 2


def _excess(a: Tensor, b: Tensor) -> Tensor:
    """Concordant less discordant pairs."""
    if a.shape[-1] < 2:
        return _untied_pairs(a)
    # ascending b, and ascending a among equal b: an inversion of a is then a discordant pair
    by_a = a.argsort(-1)
    order = by_a.gather(-1, b.gather(-1, by_a).argsort(dim=-1, stable=True))
    x, y = b.gather(-1, order), a.gather(-1, order)
    first, last = equal_runs((x[..., 1:] != x[..., :-1]) | (y[..., 1:] != y[..., :-1]))
    n = x.shape[-1]
    free_both = _untied_pairs(a) + _untied_pairs(b)
    tied_both = (last - first).to(free_both).sum(-1) / 2
    return free_both + tied_both - n * (n - 1) / 2 - 2 * _inversions(y)


def _inversions(values: Tensor) -> Tensor:
    """Pairs that stand in the wrong order, by bottom-up merge sort along the last axis."""
    size = 1
    while size < values.shape[-1]:
        size *= 2
    runs = torch.nn.functional.pad(wide(values), (0, size - values.shape[-1]), value=torch.inf)
    count = torch.zeros_like(runs[..., 0])
    half = 1
    while half < size:
        pairs = runs.unflatten(-1, (-1, 2, half))
        left, right = (pairs.select(-2, side).contiguous() for side in (0, 1))
        count = count + torch.searchsorted(right, left).sum((-1, -2))
        runs = pairs.flatten(-2).sort(-1).values.flatten(-2)
        half *= 2
    return count
