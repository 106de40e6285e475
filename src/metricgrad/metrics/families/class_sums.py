"""Metrics of predicted labels as functions of sums over classes, so that moving one row is worth two terms to compute.

The same metrics as in :mod:`metricgrad.metrics.families.confusion`, which has their conventions.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from metricgrad.functional.constants import filled, listed
from metricgrad.metrics.families.class_counts import Counts, correlation, counts_of_one, ratio
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.of_labels import AllRight, OfClassCounts, OfClasses, OfLabels, OfTables


class Score(abc.ABC):
    """Abstract: a score of each class."""

    @abc.abstractmethod
    def __call__(self, counts: Counts) -> Tensor:
        """In the shape of the counts; 0 where it is 0 divided by 0."""

    @abc.abstractmethod
    def slope(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """Its derivatives in the hits and in the predictions."""


@dataclass(frozen=True)
class FScore(Score):
    """F, with recall weighing beta times as much as precision."""

    beta: float = 1.0

    def __call__(self, counts: Counts) -> Tensor:
        """See :class:`Score`."""
        return ratio((1 + self.beta**2) * counts.hit, self._weighed(counts))

    def slope(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """See :class:`Score`."""
        weighed, most = self._weighed(counts), 1 + self.beta**2
        none, top = listed((0.0, most), weighed.dtype, weighed.device)
        of_hit = top / weighed
        return of_hit, torch.addcmul(none, counts.hit * of_hit, of_hit, value=-1 / most)

    def _weighed(self, counts: Counts) -> Tensor:
        return torch.add(counts.predicted, counts.actual, alpha=self.beta**2)


class IntersectionOverUnion(Score):
    """Jaccard's index."""

    def __call__(self, counts: Counts) -> Tensor:
        """See :class:`Score`."""
        return ratio(counts.hit, counts.either - counts.hit)

    def slope(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """See :class:`Score`."""
        either = counts.either
        square = (either - counts.hit).square()
        return either / square, -counts.hit / square


class Recall(Score):
    """The share of a class's rows that are found."""

    def __call__(self, counts: Counts) -> Tensor:
        """See :class:`Score`."""
        return ratio(counts.hit, counts.actual)

    def slope(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """See :class:`Score`."""
        return 1 / counts.actual, torch.zeros_like(counts.actual)


class Precision(Score):
    """The share of a class's predictions that are right."""

    def __call__(self, counts: Counts) -> Tensor:
        """See :class:`Score`."""
        return ratio(counts.hit, counts.predicted)

    def slope(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """See :class:`Score`."""
        of_hit = 1 / counts.predicted
        return of_hit, -counts.hit * of_hit.square()


def averaged(score: Score, average: str) -> OfLabels:
    """A score of counts averaged over classes (``"macro"``) or the rows of entries (``"samples"``), of all their counts
    (``"micro"``), or of class 1's (``"binary"``); over classes as often as each is a target (``"weighted"``)."""
    of_yes = _score_of_one(score, 1)
    if average == "micro":
        pooled = partial(_pooled, score)
        return OfClasses(terms=_counts, value=pooled, slope=partial(_pooled_slope, score), of_list=of_yes)
    if average == "macro":
        return _mean(score, _is_seen, of_yes)
    if average == "weighted":
        by_support = _mean(score, _support, of_yes)
        return replace(by_support, slope=partial(_support_slope, score), by_support=True)
    return of_yes if average == "binary" else OfLabels(of_list=of_yes)


def _mean(score: Score, counted: Callable[[Counts], Tensor], of_list: OfTables | None = None) -> OfClasses:
    """The mean of a score over the classes, by what each counts."""
    terms = partial(_counted, score, counted)
    return OfClasses(terms=terms, value=_quotient, slope=partial(_mean_slope, score), of_list=of_list)


def _counted(score: Score, counted: Callable[[Counts], Tensor], counts: Counts) -> Tensor:
    there = counted(counts)
    return torch.stack([score(counts) * there, there], -1)


def _mean_slope(score: Score, counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    of_hit, of_predicted = score.slope(counts)
    return of_hit / sums[1], of_predicted / sums[1]


def _support_slope(score: Score, counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    share = counts.actual / sums[1]
    of_hit, of_predicted = (torch.where(share > 0, of * share, share) for of in score.slope(counts))
    return of_hit, of_predicted


def _quotient(sums: Tensor) -> Tensor:
    return sums[..., 0] / sums[..., 1]


def _counts(counts: Counts) -> Tensor:
    return torch.stack([counts.hit, counts.actual, counts.predicted], -1)


def _hits(counts: Counts) -> Tensor:
    return torch.stack([counts.hit, counts.actual], -1)


def _hits_slope(counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    return (1 / sums[1]).expand(counts.hit.shape), torch.zeros_like(counts.hit)


def _pooled(score: Score, sums: Tensor) -> Tensor:
    hit, actual, predicted = sums.unbind(-1)
    return score(Counts(hit, actual, predicted, torch.ones_like(hit, dtype=torch.bool)))


def _pooled_slope(score: Score, counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    """A row that moves leaves the number of predictions as it is."""
    of_hit, _ = score.slope(counts.summed())
    return of_hit.expand(counts.hit.shape), torch.zeros_like(counts.hit)


def _score_of_one(score: Score, one: int) -> OfClassCounts:
    """A score of one class of two, 1 for yes and 0 for no."""
    return OfClassCounts(value=partial(_of_one, score, one), slope=partial(_slope_of_one, score, one))


def _of_one(score: Score, one: int, counts: Counts) -> Tensor:
    return score(counts_of_one(counts, one))


def _slope_of_one(score: Score, one: int, counts: Counts) -> tuple[Tensor, Tensor]:
    slopes = torch.stack(score.slope(counts_of_one(counts, one)))[:, None]
    of_hit, of_predicted = torch.nn.functional.pad(slopes, (one, 1 - one)).unbind()
    return of_hit, of_predicted


def _is_seen(counts: Counts) -> Tensor:
    return counts.seen


def _support(counts: Counts) -> Tensor:
    return counts.actual


def _is_target(counts: Counts) -> Tensor:
    return counts.actual > 0


def _logs(counts: Counts) -> Tensor:
    there, never_found = _is_target(counts), counts.hit <= 0
    log = (counts.hit / counts.actual).masked_fill(never_found, 1).log()
    return torch.stack([log, there & never_found, there], -1)


def _geometric(sums: Tensor) -> Tensor:
    logs, never_found, classes = sums.unbind(-1)
    return (logs / classes).exp().masked_fill(never_found > 0, 0)


def _margins(counts: Counts) -> Tensor:
    return torch.stack([counts.hit, counts.actual, counts.actual * counts.predicted, counts.seen], -1)


def _moments(counts: Counts) -> Tensor:
    """What entry by entry becomes a matrix of covariances, and the products of the margins that are taken from it."""
    margins, hit = torch.stack([counts.actual, counts.predicted], -1), counts.hit[..., None]
    products = (margins[..., None] * margins[..., None, :]).flatten(-2)
    return torch.cat([margins[..., :1], hit, hit, margins[..., 1:], products], -1)


def _covariances(sums: Tensor) -> Tensor:
    r"""``(..., 4)``, turned round: :math:`\sum_c m_c^2 - n^2` of the targets' margin m in the first place and of the
    predictions' in the last, and between them twice what both have in common."""
    return torch.addcmul(sums[..., 4:], sums[..., :1], sums[..., :4], value=-1)


def _correlation(sums: Tensor) -> Tensor:
    turned = _covariances(sums)
    return correlation(turned[..., 1], turned[..., ::3].prod(-1), sign=-1)


@dataclass(frozen=True, kw_only=True)
class MccOfTwo(OfClasses):
    r"""MCC as torchmetrics has it of two classes: where one is never a target, or never predicted, of r right rows and
    w wrong ones it is :math:`(r - w) / \sqrt{(r + w) r w}`, and 1 or -1 where one of both is 0.

    Trained on it is as MCC: a memory with one positive among 1,000 rows would be worth 1 without any predicted.
    """

    def shown(self, tables: ConfusionTables, values: Tensor) -> Tensor:
        """See :class:`metricgrad.metrics.of_labels.OfTables`."""
        counts = tables.counts
        right, total = counts.hit.sum(-1), counts.actual.sum(-1)
        wrong = total - right
        lead = right - wrong
        without = torch.where(right * wrong > 0, lead / (total * right * wrong).sqrt(), lead.sign())
        return torch.where(((counts.actual == 0) | (counts.predicted == 0)).any(-1), without, values)


def _agreement(sums: Tensor) -> Tensor:
    hit, total, both, seen = sums.unbind(-1)
    apart = torch.addcmul(both, hit, total, value=-1) / torch.addcmul(both, total, total, value=-1)
    return apart.masked_fill(seen < 2, torch.nan)


def _geometric_slope(counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    logs, _, classes = sums.unbind()
    return (logs / classes).exp() / (classes * counts.hit), torch.zeros_like(counts.hit)


def _correlation_slope(counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    turned = _covariances(sums)
    root, share = turned[::3].prod().sqrt(), turned[1] / turned[3]
    less = torch.addcmul(counts.actual, share, counts.predicted, value=-1)
    nothing = filled(0.0, 1, less.dtype, less.device)
    return (sums[0] / root).expand(counts.hit.shape), torch.addcdiv(nothing, less, root, value=-1)


def _agreement_slope(counts: Counts, sums: Tensor) -> tuple[Tensor, Tensor]:
    hit, total, both, _ = sums.unbind()
    of_hit = total / torch.addcmul(-both, total, total)
    return of_hit.expand(counts.hit.shape), counts.actual * ((hit - total) / total * of_hit.square())


INTERSECTION_OVER_UNION, PRECISION, RECALL = IntersectionOverUnion(), Precision(), Recall()
ENTRIES = OfClasses(terms=_hits, value=_quotient, slope=_hits_slope)
ACCURACY = replace(ENTRIES, of_list=AllRight())
SPECIFICITY = _score_of_one(RECALL, 0)
MEAN_RECALL = _mean(RECALL, _is_seen)
BALANCED_ACCURACY = _mean(RECALL, _is_target)
G_MEAN = OfClasses(terms=_logs, value=_geometric, slope=_geometric_slope)
MCC = OfClasses(terms=_moments, value=_correlation, slope=_correlation_slope)
MCC_OF_TWO = MccOfTwo(terms=_moments, value=_correlation, slope=_correlation_slope)
KAPPA = OfClasses(terms=_margins, value=_agreement, slope=_agreement_slope)
