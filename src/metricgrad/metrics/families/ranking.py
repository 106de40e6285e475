"""Metrics of positives against negatives over all thresholds: AUROC, average precision, recall at a precision.

``(N,)`` scores rank one list. With ``(N, C)`` scores each column is ranked for itself and the columns are averaged: one
class against the rest where targets are class indices (by the order of the softmax probabilities, as scikit-learn's
``multi_class="ovr"`` has it), one label where targets are ``(N, C)``. Equal scores share one threshold, as in
scikit-learn.

A column where the metric is undefined (no positive; for AUROC also no negative) is left out of the average, and the
value is NaN where none is left. scikit-learn gives 0 for average precision without positives, and NaN or an exception
for AUROC with one class; torchmetrics gives 0 for AUROC and leaves out NaN for average precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.by_group import by_group
from metricgrad.metrics.families import counts
from metricgrad.metrics.of_counts import LargestPlace, MeanOverPositives
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

_CONTEXT = ("sample_weight", "parts")
_STRUCTURE = Structure("positives_over_negatives", "all", {"within": "auto", "two_d": "column"})


@dataclass(frozen=True)
class Thresholds:
    """Weight above each threshold, for every item in descending order of its score.

    All are ``(..., N)``; ``up_to`` counts the item's whole block of equal scores, ``above`` only what beats it.
    """

    positive: Tensor
    negative: Tensor
    positive_above: Tensor
    positive_up_to: Tensor
    negative_up_to: Tensor

    @property
    def precision(self) -> Tensor:
        """Share of positives among the items at and above each threshold."""
        chosen = self.positive_up_to + self.negative_up_to
        return self.positive_up_to / torch.where(chosen > 0, chosen, 1)


def thresholds(scores: Tensor, positive: Tensor, weight: Tensor | None = None) -> Thresholds:
    """Sort along the last axis and accumulate.

    Args:
        scores: ``(..., N)``.
        positive: booleans that broadcast to it.
        weight: ``(N,)``, or anything that broadcasts to the scores; 1 by default.
    """
    ordered, order = scores.sort(-1, descending=True)
    weights = wide(torch.ones_like(ordered)) if weight is None else wide(weight).expand(order.shape).gather(-1, order)
    yes = positive.expand(order.shape).gather(-1, order)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    last = torch.ones_like(first)
    last[..., :-1] = first[..., 1:]
    up, down = weights * yes, weights * ~yes
    up_sum, down_sum = up.cumsum(-1), down.cumsum(-1)
    return Thresholds(up, down, _at_start(up_sum - up, first), _at_end(up_sum, last), _at_end(down_sum, last))


def _at_start(rising: Tensor, first: Tensor) -> Tensor:
    """The value of a rising sequence at the first item of each item's block."""
    return torch.where(first, rising, 0).cummax(-1).values


def _at_end(rising: Tensor, last: Tensor) -> Tensor:
    """The value of a rising sequence at the last item of each item's block."""
    return torch.where(last, rising, torch.inf).flip(-1).cummin(-1).values.flip(-1)


def _each_column(
    score: Callable[[Thresholds], Tensor], read: Tensor, targets: Tensor, weight: Tensor | None, parts: Tensor | None
) -> Tensor:
    """``score`` of the list, or its mean over the columns where it is defined."""
    if parts is not None:

        def of_lists(read: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
            return score(thresholds(read.movedim(-1, 0), targets.bool(), weight)).mT

        ones = wide(torch.ones_like(targets)) if weight is None else weight
        return by_group(of_lists, parts, read.mT, targets, ones)[1].nanmean(0)
    if read.ndim == 2:
        return score(thresholds(read, targets.bool(), weight))
    if targets.ndim == 1:
        positive = targets == torch.arange(read.shape[-1], device=targets.device)[:, None]
    else:
        positive = targets.bool().T
    return score(thresholds(read.mT, positive, weight)).nanmean(-1)


@register(
    "auroc",
    reads="probabilities",
    by_order=True,
    structure=_STRUCTURE,
    context=_CONTEXT,
    fast_path=MeanOverPositives(counts.auroc, "halves", by_place=False, items_weigh=True, needs_negatives=True),
)
def auroc(read: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None) -> Tensor:
    """Chance that a positive outranks a negative, a tie counting half; the mean over columns for (N, C) scores."""

    def score(at: Thresholds) -> Tensor:
        won = (at.negative * (at.positive_above + at.positive_up_to)).sum(-1) / 2
        pairs = at.positive.sum(-1) * at.negative.sum(-1)
        return torch.where(pairs > 0, won / pairs, torch.nan)

    return _each_column(score, read, targets, sample_weight, parts)


@register(
    "average_precision",
    reads="probabilities",
    by_order=True,
    structure=_STRUCTURE,
    context=_CONTEXT,
    fast_path=MeanOverPositives(counts.average_precision, "together", items_weigh=True),
)
def average_precision(
    read: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None
) -> Tensor:
    """Precision at each positive, averaged; the mean over columns for (N, C) scores."""

    def score(at: Thresholds) -> Tensor:
        total = at.positive.sum(-1)
        return torch.where(total > 0, (at.positive * at.precision).sum(-1) / total, torch.nan)

    return _each_column(score, read, targets, sample_weight, parts)


@register(
    "recall_at_precision",
    reads="probabilities",
    by_order=True,
    structure=_STRUCTURE,
    context=_CONTEXT,
    fast_path=LargestPlace(counts.recall_at_precision, "together"),
)
def recall_at_precision(
    read: Tensor,
    targets: Tensor,
    *,
    precision: float = 0.9,
    sample_weight: Tensor | None = None,
    parts: Tensor | None = None,
) -> Tensor:
    """Largest recall of a threshold whose precision is at least ``precision``; 0 where none is.

    The mean over columns for (N, C) scores; NaN without positives.
    """
    if isinstance(precision, str | bool) or not 0 <= precision <= 1:
        raise MetricgradError(f"recall_at_precision: precision={precision!r}; expected a number from 0 to 1")

    def score(at: Thresholds) -> Tensor:
        total = at.positive.sum(-1)
        reached = torch.where(at.precision >= precision, at.positive_up_to, 0).amax(-1)
        return torch.where(total > 0, reached / total, torch.nan)

    return _each_column(score, read, targets, sample_weight, parts)
