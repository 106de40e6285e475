"""What else a metric of predicted labels is a function of; see :mod:`metricgrad.metrics.fast_paths`."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.class_utilities import ClassUtilities
from metricgrad.metrics.families.class_counts import Counts
from metricgrad.metrics.families.confusion_tables import ConfusionTables, SmoothTable
from metricgrad.metrics.fast_paths import ClassNames, FastPath

_SUMS = 8


@dataclass(frozen=True)
class OfLabels(FastPath):
    """A metric of predicted labels that takes weights: rows that are alike count as one weighted row.

    Attributes:
        names: what it reads of the numbers of classes: nothing, so that they may be renamed (``"alike"``), their order
            among those that are a target or a prediction (``"ordered"``), or the numbers themselves (``"kept"``).
    """

    names: ClassNames = "kept"

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """A row that moves, a row for the others like it, and each class; single entries are not put together."""
        if scores.ndim == targets.ndim:
            return whole
        rows, classes = len(targets), scores.shape[-1]
        return 2 * rows + (classes if self.names == "kept" else min(classes, 4 * rows + 1))

    def takes(self, context: Collection[str]) -> bool:
        """Weights alone."""
        return set(context) <= {"sample_weight"}


class OfTables(OfLabels, abc.ABC):
    """Abstract: a metric of predicted labels whose slopes in the confusion table follow from sums over its rows."""

    @abc.abstractmethod
    def values(self, tables: ConfusionTables) -> Tensor:
        """``(S,)``, of S tables."""

    @abc.abstractmethod
    def slopes(self, table: SmoothTable) -> ClassUtilities:
        r""":math:`\partial g / \partial M_{yb}` at a table M, up to what is the same for all b."""


Slope = Callable[[Counts], tuple[Tensor, Tensor]]


class _OfCounts(OfTables, abc.ABC):
    """Abstract: a function of the hits, targets and predictions of each class."""

    slope: Slope

    @abc.abstractmethod
    def _value(self, counts: Counts) -> Tensor:
        """``(...)`` of ``(..., C)`` counts."""

    def values(self, tables: ConfusionTables) -> Tensor:
        """See :class:`OfTables`."""
        return self._value(tables.counts)

    def slopes(self, table: SmoothTable) -> ClassUtilities:
        """See :class:`OfTables`."""
        hit, predicted = self.slope(table.counts)
        return ClassUtilities(table.shared(predicted), hit)


@dataclass(frozen=True, kw_only=True)
class OfClassCounts(_OfCounts):
    """A metric of predicted labels that is a function of the hits, targets and predictions of each class.

    Attributes:
        value: ``(..., C)`` counts to ``(...)``.
        slope: ``(C,)`` counts to its ``(C,)`` derivatives in the hits and in the predictions.
    """

    names: ClassNames = "kept"
    value: Callable[[Counts], Tensor]
    slope: Slope

    def _value(self, counts: Counts) -> Tensor:
        return self.value(counts)


@dataclass(frozen=True, kw_only=True)
class OfClasses(_OfCounts):
    """A metric of predicted labels that is a function of sums over classes: a row that moves changes two terms.

    Attributes:
        terms: ``(..., C)`` counts to ``(..., C, K)``, what each class adds to K sums.
        value: ``(..., K)`` sums to ``(...)``.
        slope: ``(C,)`` counts to its ``(C,)`` derivatives in the hits and in the predictions.
    """

    names: ClassNames = "alike"
    terms: Callable[[Counts], Tensor]
    value: Callable[[Tensor], Tensor]
    slope: Slope

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """The sums."""
        return whole if scores.ndim == targets.ndim else _SUMS

    def _value(self, counts: Counts) -> Tensor:
        return self.value(self.terms(counts).sum(-2))


@dataclass(frozen=True)
class OfGrades(OfTables):
    r"""Quadratic kappa, whose classes are grades g: a miss costs the square of its distance.

    .. math:: 1 - O / E, \qquad O = \sum_{yb} M_{yb} (g_y - g_b)^2, \qquad E = \sum_{yb} a_y p_b (g_y - g_b)^2 / n

    with a the targets, p the predictions and n rows, by moments of the margins and :math:`\sum_b M_{yb} g_b`.

    Attributes:
        classes: how many grades there are; None where those that occur are counted, in their order.
    """

    classes: int | None = field(default=None, kw_only=True)

    def values(self, tables: ConfusionTables) -> Tensor:
        """See :class:`OfTables`."""
        grade = self._grades(tables.counts.seen)
        observed, expected, _ = _disagreements(tables.counts, grade, tables.graded(grade))
        return torch.where(tables.counts.seen.sum(-1) < 2, torch.nan, 1 - observed / expected)

    def slopes(self, table: SmoothTable) -> ClassUtilities:
        """See :class:`OfTables`."""
        grade = self._grades(table.counts.seen)
        observed, expected, mean = _disagreements(table.counts, grade, table.graded(grade))
        square, quotient = grade.square(), observed / expected
        predicted = (quotient * (square - 2 * mean * grade) - square) / expected
        grade = table.shared(grade)
        return ClassUtilities(table.shared(predicted), torch.zeros_like(grade), 2 * grade / expected, grade)

    def _grades(self, seen: Tensor) -> Tensor:
        """``(..., C)`` the grade that each class is."""
        if self.classes is None:
            return (seen.cumsum(-1) - 1).double()
        if (found := seen.shape[-1]) > max(2, self.classes):
            raise MetricgradError(f"quadratic_kappa: num_classes={self.classes}, but there is a grade {found - 1}")
        return torch.arange(found, dtype=torch.float64, device=seen.device).expand(seen.shape)


def _disagreements(counts: Counts, grade: Tensor, graded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(...)`` observed and expected squared distances, and the mean grade of the targets."""
    second = (counts.either * grade.square()).sum(-1)
    mean = (counts.actual * grade).sum(-1) / counts.actual.sum(-1)
    observed = second - 2 * (grade * graded).sum(-1)
    return observed, second - 2 * mean * (counts.predicted * grade).sum(-1), mean
