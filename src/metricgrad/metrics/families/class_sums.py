"""Metrics of predicted labels as functions of sums over classes, so that moving one row is worth two terms to compute.

The same metrics as in :mod:`metricgrad.metrics.families.confusion`, which has their conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metricgrad.metrics.families.class_counts import Counts, counts_of_yes, ratio
from metricgrad.metrics.of_labels import OfClassCounts, OfClasses, OfLabels

Score = Callable[[Counts], Tensor]


def f_score(beta: float) -> Score:
    """F of each class, with recall weighing beta times as much as precision."""
    return partial(_f_score, beta)


def _f_score(beta: float, counts: Counts) -> Tensor:
    return ratio((1 + beta**2) * counts.hit, beta**2 * counts.actual + counts.predicted)


def intersection_over_union(counts: Counts) -> Tensor:
    """Jaccard's index of each class."""
    return ratio(counts.hit, counts.either - counts.hit)


def averaged(score: Score, average: str) -> OfLabels:
    """A score of counts averaged over classes (``"macro"``), of all their counts (``"micro"``) or of class 1's."""
    if average == "micro":
        return OfClasses(terms=_counts, value=partial(_pooled, score))
    if average == "macro":
        return _mean(score, _is_seen)
    return OfClassCounts(of_counts=partial(_of_yes, score)) if average == "binary" else OfLabels()


def _mean(score: Score, counted: Callable[[Counts], Tensor]) -> OfClasses:
    """The mean of a score over the classes that count."""
    return OfClasses(terms=partial(_counted, score, counted), value=_quotient)


def _counted(score: Score, counted: Callable[[Counts], Tensor], counts: Counts) -> Tensor:
    there = counted(counts)
    return torch.stack([torch.where(there, score(counts), 0), there.to(counts.hit)], -1)


def _quotient(sums: Tensor) -> Tensor:
    return sums[..., 0] / sums[..., 1]


def _counts(counts: Counts) -> Tensor:
    return torch.stack([counts.hit, counts.actual, counts.predicted], -1)


def _pooled(score: Score, sums: Tensor) -> Tensor:
    hit, actual, predicted = sums.unbind(-1)
    return score(Counts(hit, actual, predicted, torch.ones_like(hit, dtype=torch.bool)))


def _of_yes(score: Score, counts: Counts) -> Tensor:
    return score(counts_of_yes(counts))


def _is_seen(counts: Counts) -> Tensor:
    return counts.seen


def _recall(counts: Counts) -> Tensor:
    return ratio(counts.hit, counts.actual)


def _is_target(counts: Counts) -> Tensor:
    return counts.actual > 0


def _logs(counts: Counts) -> Tensor:
    recall, there = _recall(counts), _is_target(counts)
    log = torch.where(recall > 0, recall, 1).log()
    return torch.stack([log, (there & (recall == 0)).to(log), there.to(log)], -1)


def _geometric(sums: Tensor) -> Tensor:
    logs, never_found, classes = sums.unbind(-1)
    return torch.where(never_found > 0, 0, (logs / classes).exp())


def _moments(counts: Counts) -> Tensor:
    both = counts.actual * counts.predicted
    squares = counts.actual.square(), counts.predicted.square()
    return torch.stack([counts.hit, counts.actual, both, *squares, counts.seen.to(both)], -1)


def _correlation(sums: Tensor) -> Tensor:
    hit, total, both, actual, predicted, _ = sums.unbind(-1)
    spread = (total**2 - actual) * (total**2 - predicted)
    return ratio(hit * total - both, spread.clamp(min=0).sqrt())


def _agreement(sums: Tensor) -> Tensor:
    hit, total, both, _, _, seen = sums.unbind(-1)
    return torch.where(seen < 2, torch.nan, 1 - (total - hit) / (total - both / total))


ACCURACY = OfClasses(terms=_counts, value=_quotient)
BALANCED_ACCURACY = _mean(_recall, _is_target)
G_MEAN = OfClasses(terms=_logs, value=_geometric)
MCC = OfClasses(terms=_moments, value=_correlation)
KAPPA = OfClasses(terms=_moments, value=_agreement)
