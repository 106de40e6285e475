"""Counts of each class, of which metrics of predicted labels are functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.constants import filled
from metricgrad.functional.sums_at import sums_at
from metricgrad.precision import wide


class Counts(NamedTuple):
    """Weighted counts of each class, or of each yes in a multilabel problem.

    Attributes:
        hit: ``(..., C)`` entries where target and prediction are the class.
        actual: ``(..., C)`` or ``(C,)`` entries whose target is the class.
        predicted: ``(..., C)`` entries whose prediction is the class.
        marked: ``(..., C)`` whether any entry, however little it weighs, has the class as target or prediction; None
            where all weigh something, so that counts say it.
    """

    hit: Tensor
    actual: Tensor
    predicted: Tensor
    marked: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """``(..., C)``: whether any entry has the class as target or prediction."""
        return torch.logical_or(self.actual, self.predicted) if self.marked is None else self.marked

    @property
    def either(self) -> Tensor:
        """Targets and predictions together, a hit twice."""
        return self.actual + self.predicted

    def first(self) -> Counts:
        """Those of the first set."""
        return self.viewed(lambda part: part[0])

    def viewed(self, part: Callable[[Tensor], Tensor]) -> Counts:
        """The same part of each."""
        marked = None if self.marked is None else part(self.marked)
        return Counts(part(self.hit), part(self.actual), part(self.predicted), marked)

    def summed(self) -> Counts:
        """The counts of all classes together."""
        marked = None if self.marked is None else self.marked.any(-1)
        return Counts(self.hit.sum(-1), self.actual.sum(-1), self.predicted.sum(-1), marked)


def counts_of_one(counts: Counts, one: int) -> Counts:
    """The counts of one class of two, 1 for yes and 0 for no, without the axis of classes.

    Raises:
        MetricgradError: where there are more classes.
    """
    if counts.hit.shape[-1] > 2:
        raise MetricgradError(
            "average='binary' (as in 'f1') is for yes-or-no targets, but there are more than two classes; "
            "take macro_f1 or micro_f1, or average='macro' or 'micro'"
        )
    return counts.viewed(lambda part: part[..., one])


def class_counts(labels: Tensor, targets: Tensor, weight: Tensor | None = None) -> Counts:
    """Count hits, targets and predictions of each class.

    Args:
        labels: ``(T, N)`` class indices.
        targets: ``(N,)`` class indices.
        weight: ``(N,)`` weights of the rows; 1 by default.

    Returns:
        ``(T, C)`` counts, with C one more than the largest class seen, and at least 2.
    """
    classes = max(2, 1 + int(max(labels.max(), targets.max())))
    ones = torch.ones_like(targets) if weight is None else weight
    ones = wide(ones)
    shape = (len(labels), classes)
    spread = ones.expand(labels.shape)
    predicted = sums_at(labels, spread, ones.new_zeros(shape))
    hit = sums_at(labels, spread * (labels == targets), ones.new_zeros(shape))
    actual = sums_at(targets[None], ones, ones.new_zeros(1, classes)).expand(shape)
    if weight is None:
        return Counts(hit, actual, predicted)
    seen = torch.zeros(shape, dtype=torch.bool, device=labels.device).scatter(1, labels, True)
    seen[:, targets] = True
    return Counts(hit, actual, predicted, seen)


def counts_of_groups(labels: Tensor, targets: Tensor, which: Tensor, groups: int, classes: int) -> Counts:
    """The same of each group, ``(T, G, C)`` each.

    Args:
        labels: ``(T, N)`` class indices.
        targets: ``(N,)``.
        which: ``(N,)`` group of each row, from 0.
        groups: G.
        classes: C.
    """
    ones, first = wide(torch.ones_like(targets)), which * classes

    def total(of: Tensor, values: Tensor) -> Tensor:
        empty = values.new_zeros(len(of), groups * classes)
        return empty.scatter_add_(1, first + of, values.expand(of.shape)).view(-1, groups, classes)

    actual, predicted = total(targets[None], ones).expand(len(labels), -1, -1), total(labels, ones)
    hit = total(labels, wide(labels == targets))
    return Counts(hit, actual, predicted)


def yes_counts(labels: Tensor, targets: Tensor, weight: Tensor | None, over: int) -> Counts:
    """Counts of yes in ``(T, N, C)`` labels, summed over the rows (``over=1``) or over the columns (``over=2``)."""
    ones = labels.new_ones(len(targets)) if weight is None or over == 2 else weight
    ones = wide(ones)[:, None]
    parts = ((labels * targets * ones), (targets * ones).expand(labels.shape), labels * ones)
    hit, actual, predicted = (x.sum(over) for x in parts)
    return Counts(hit, actual, predicted, torch.ones_like(hit, dtype=torch.bool))


def pooled(labels: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Multilabel entries as one list of yes-or-no decisions."""
    if labels.ndim == 2:
        return labels, targets, weight
    if weight is not None:
        weight = weight[:, None].expand(targets.shape).reshape(-1)
    return labels.flatten(1), targets.reshape(-1), weight


def ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """Entry by entry, of counts: where the bottom is zero the top is zero to the bit, and so is this."""
    return top / bottom.masked_fill(bottom == 0, 1)


def correlation(covariance: Tensor, spread: Tensor, sign: int = 1) -> Tensor:
    """By the product of both variances; 0 where that is none, where rounding may leave some covariance.

    Args:
        covariance: as it is, or turned round.
        spread: the product.
        sign: 1, or -1.
    """
    nothing = filled(0.0, 1, spread.dtype, spread.device)[0]
    return torch.addcdiv(nothing, covariance, spread.sqrt(), value=sign).masked_fill_(spread <= 0, 0)


def mean_over_last(values: Tensor, weight: Tensor | None, where: Tensor | None = None) -> Tensor:
    """Mean over the last axis, weighted, of the entries ``where``; NaN without any."""
    if where is not None:
        return torch.where(where, values, 0).sum(-1) / where.sum(-1)
    return values.mean(-1) if weight is None else (values * weight).sum(-1) / weight.sum()


def mean_of_seen(values: Tensor, seen: Tensor) -> Tensor:
    """Mean over the last axis of the classes that are a target or a prediction; NaN without any."""
    return mean_over_last(values, None, seen)
