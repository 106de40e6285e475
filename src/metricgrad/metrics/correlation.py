"""Rank correlation of scores and targets: over all rows, or for each column of ``(N, C)`` targets and averaged.

NaN where the scores or the targets are constant, as in SciPy; a constant column makes the average NaN as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metric import Structure
from metricgrad.metrics.decoding import wide
from metricgrad.metrics.registry import register

_STRUCTURE = Structure("ranking", "all", {"within": "auto", "two_d": "column"})


def average_ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis, from 1, with the mean rank for equal values; float64.

    Example:
        >>> average_ranks(torch.tensor([10.0, 30.0, 10.0])).tolist()
        [1.5, 3.0, 1.5]
    """
    ordered, order = values.sort(-1)
    first, last = _blocks(ordered[..., 1:] != ordered[..., :-1])
    return wide(torch.zeros_like(ordered)).scatter(-1, order, wide((first + last + 2).float()) / 2)


def _blocks(new: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place of each item's block of equals, from ``(..., N - 1)`` flags of a change."""
    place = torch.arange(new.shape[-1] + 1, device=new.device)
    edge = torch.ones_like(new[..., :1]) if new.shape[-1] else new.new_ones((*new.shape[:-1], 1))
    first = torch.where(torch.cat([edge, new], -1), place, 0).cummax(-1).values
    end = torch.where(torch.cat([new, edge], -1), place, len(place))
    return first, end.flip(-1).cummin(-1).values.flip(-1)


def _by_column(fn, scores: Tensor, targets: Tensor, metric: str) -> Tensor:
    if scores.shape[1:] != targets.shape:
        raise MetricgradError(
            f"{metric} compares scores and targets of one shape, got {tuple(scores.shape[1:])} and "
            f"{tuple(targets.shape)}"
        )
    if scores.ndim == 2:
        return fn(scores, targets)
    return fn(scores.mT, targets.mT).mean(-1)


@register("spearman", reads="scores", structure=_STRUCTURE, targets="real")
def spearman(scores: Tensor, targets: Tensor) -> Tensor:
    """Correlation of the ranks of scores and targets."""

    def correlation(scores: Tensor, targets: Tensor) -> Tensor:
        a, b = (x - x.mean(-1, keepdim=True) for x in (average_ranks(scores), average_ranks(targets)))
        return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()

    return _by_column(correlation, scores, targets, "spearman")


@register("kendall", reads="scores", structure=_STRUCTURE, targets="real")
def kendall(scores: Tensor, targets: Tensor) -> Tensor:
    """Kendall's tau-b: concordant less discordant pairs, corrected for ties; O(N log^2 N)."""

    def tau(scores: Tensor, targets: Tensor) -> Tensor:
        targets = targets.expand(scores.shape)
        # ascending targets, and ascending scores among equal targets: an inversion is then a discordant pair
        by_score = scores.argsort(-1)
        order = by_score.gather(-1, targets.gather(-1, by_score).argsort(dim=-1, stable=True))
        x, y = targets.gather(-1, order), scores.gather(-1, order)
        new_x = x[..., 1:] != x[..., :-1]
        tied_x = _tied_pairs(new_x)
        tied_both = _tied_pairs(new_x | (y[..., 1:] != y[..., :-1]))
        ordered = y.sort(-1).values
        tied_y = _tied_pairs(ordered[..., 1:] != ordered[..., :-1])
        pairs = x.shape[-1] * (x.shape[-1] - 1) / 2
        excess = pairs - tied_x - tied_y + tied_both - 2 * _inversions(y)
        return excess / ((pairs - tied_x) * (pairs - tied_y)).sqrt()

    return _by_column(tau, scores, targets, "kendall")


def _tied_pairs(new: Tensor) -> Tensor:
    first, last = _blocks(new)
    return wide((last - first).float()).sum(-1) / 2


def _inversions(values: Tensor) -> Tensor:
    """Pairs that stand in the wrong order, by bottom-up merge sort along the last axis."""
    size = 1
    while size < values.shape[-1]:
        size *= 2
    values = torch.nn.functional.pad(wide(values), (0, size - values.shape[-1]), value=torch.inf)
    count = wide(torch.zeros_like(values[..., 0]))
    half = 1
    while half < size:
        pairs = values.unflatten(-1, (-1, 2, half))
        left, right = (pairs.select(-2, side).contiguous() for side in (0, 1))
        smaller = torch.searchsorted(right, left)
        count = count + smaller.sum((-1, -2))
        values = pairs.flatten(-2).sort(-1).values.flatten(-2)
        half *= 2
    return count
