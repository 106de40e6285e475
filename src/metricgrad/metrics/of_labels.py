"""What else a metric of predicted labels is a function of; see :mod:`metricgrad.metrics.fast_paths`."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.class_utilities import ClassUtilities
from metricgrad.metrics.families.class_counts import Counts
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.fast_paths import ClassNames, FastPath
from metricgrad.precision import wide_dtype

_SUMS = 8


@dataclass(frozen=True)
class OfLabels(FastPath):
    """A metric of predicted labels that takes weights: rows that are alike count as one weighted row.

    Attributes:
        names: what it reads of the numbers of classes: nothing, so that they may be renamed (``"alike"``), their order
            among those that are a target or a prediction (``"ordered"``), or the numbers themselves (``"kept"``).
        of_list: of entries of yes or no, the metric of one column, one row or all entries, where it is the mean of
            that; None where it is of all entries by the tables that it has of classes, or of no such lists.
        by_support: whether each column counts in that mean as many times as it has a yes among its targets.
    """

    names: ClassNames = "kept"
    of_list: OfTables | None = None
    by_support: bool = False

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """A row that moves, a row for the others like it, and each class; single entries are not put together."""
        if scores.ndim == targets.ndim:
            return whole
        rows, classes = len(targets), scores.shape[-1]
        return 2 * rows + (classes if self.names == "kept" else min(classes, 4 * rows + 1))

    def takes(self, context: Collection[str]) -> bool:
        """Weights alone."""
        return set(context) <= {"sample_weight"}


class AtTables(NamedTuple):
    r"""What a metric is worth where S tables stand, found when it is asked for.

    Attributes:
        values: to ``(S,)``.
        slopes: to :math:`\partial g / \partial M_{yb}` at the first table M, up to what is one for all b.
    """

    values: Callable[[], Tensor]
    slopes: Callable[[], ClassUtilities]


class OfTables(OfLabels, abc.ABC):
    """Abstract: a metric of predicted labels whose slopes in the confusion table follow from sums over its rows."""

    @abc.abstractmethod
    def at(self, tables: ConfusionTables) -> AtTables:
        """Where S tables stand."""

    def values(self, tables: ConfusionTables) -> Tensor:
        """``(S,)``, of S tables."""
        return self.at(tables).values()

    def shown(self, tables: ConfusionTables, values: Tensor) -> Tensor:
        """``(S,)`` values of S tables, as the metric has them whose twin this is; to be said, not to be trained on."""
        return values


@dataclass(frozen=True)
class AllRight(OfTables):
    r"""Whether nothing in a list is wrong.

    Trained on, of m wrong decisions, as :math:`e^{-m}`: the chance of none where m are expected, by Poisson's law.
    """

    def at(self, tables: ConfusionTables) -> AtTables:
        """See :class:`OfTables`."""
        chance = (-_wrong(tables)).exp()

        def slopes() -> ClassUtilities:
            none = torch.zeros_like(tables.counts.hit[0])
            return ClassUtilities(none, none + chance[0])

        return AtTables(lambda: chance, slopes)

    def shown(self, tables: ConfusionTables, values: Tensor) -> Tensor:
        """See :class:`OfTables`."""
        return (_wrong(tables) <= 0).to(values)


def _wrong(tables: ConfusionTables) -> Tensor:
    return (tables.counts.actual - tables.counts.hit).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Complement(OfTables):
    """1 less another metric, as an error rate is.

    Attributes:
        path: of that.
    """

    path: OfTables

    def at(self, tables: ConfusionTables) -> AtTables:
        """See :class:`OfTables`."""
        values, slopes = self.path.at(tables)
        return AtTables(lambda: 1 - values(), lambda: -slopes())

    def shown(self, tables: ConfusionTables, values: Tensor) -> Tensor:
        """See :class:`OfTables`."""
        return 1 - self.path.shown(tables, 1 - values)


def complement(path: OfTables) -> Complement:
    """Of a metric, and of that of its lists."""
    of_list = None if path.of_list is None else complement(path.of_list)
    return Complement(path.names, of_list, path.by_support, path=path)


Slope = Callable[[Counts], tuple[Tensor, Tensor]]
SlopeOfSums = Callable[[Counts, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class OfClassCounts(OfTables):
    """A metric of predicted labels that is a function of the hits, targets and predictions of each class.

    Attributes:
        value: ``(..., C)`` counts to ``(...)``.
        slope: ``(C,)`` counts to its ``(C,)`` derivatives in the hits and in the predictions.
    """

    names: ClassNames = "kept"
    value: Callable[[Counts], Tensor]
    slope: Slope

    def at(self, tables: ConfusionTables) -> AtTables:
        """See :class:`OfTables`."""

        def slopes() -> ClassUtilities:
            hit, predicted = self.slope(tables.counts.first())
            return ClassUtilities(tables.shared(predicted), tables.hit(hit))

        return AtTables(lambda: self.of_counts(tables.counts), slopes)

    def of_counts(self, counts: Counts) -> Tensor:
        """``(...)`` values of ``(..., C)`` counts."""
        return self.value(counts)


@dataclass(frozen=True, kw_only=True)
class OfClasses(OfTables):
    """A metric of predicted labels that is a function of sums over classes: a row that moves changes two terms.

    Attributes:
        terms: ``(..., C)`` counts to ``(..., C, K)``, what each class adds to K sums.
        value: ``(..., K)`` sums to ``(...)``.
        slope: ``(C,)`` counts and ``(K,)`` sums to its ``(C,)`` derivatives in the hits and in the predictions.
    """

    names: ClassNames = "alike"
    terms: Callable[[Counts], Tensor]
    value: Callable[[Tensor], Tensor]
    slope: SlopeOfSums

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """The sums."""
        return whole if scores.ndim == targets.ndim else _SUMS

    def at(self, tables: ConfusionTables) -> AtTables:
        """See :class:`OfTables`."""
        sums = self.terms(tables.counts).sum(-2)

        def slopes() -> ClassUtilities:
            hit, predicted = self.slope(tables.counts.first(), sums[0])
            return ClassUtilities(tables.shared(predicted), tables.hit(hit))

        return AtTables(lambda: self.value(sums), slopes)

    def of_counts(self, counts: Counts) -> Tensor:
        """``(...)`` values of ``(..., C)`` counts."""
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

    def at(self, tables: ConfusionTables) -> AtTables:
        """See :class:`OfTables`."""
        seen = tables.counts.seen
        grades = self._grades(seen)
        squares = grades.square()
        observed, expected, means = _disagreements(tables.counts, grades, squares, tables.graded(grades))
        quotients = observed / expected

        def slopes() -> ClassUtilities:
            grade, square, chance = tables.shared(grades[0]), squares[0], expected[0]
            predicted = (quotients[0] * torch.addcmul(square, grades[0], means[0], value=-2) - square) / chance
            return ClassUtilities(tables.shared(predicted), near=grade / (chance * 0.5), grade=grade)

        return AtTables(lambda: (1 - quotients).masked_fill(seen.sum(-1) < 2, torch.nan), slopes)

    def _grades(self, seen: Tensor) -> Tensor:
        """``(..., C)`` the grade that each class is."""
        if self.classes is None:
            return seen.cumsum(-1, dtype=wide_dtype(seen.device)) - 1
        if (found := seen.shape[-1]) > max(2, self.classes):
            raise MetricgradError(f"quadratic_kappa: num_classes={self.classes}, but there is a grade {found - 1}")
        return torch.arange(found, dtype=wide_dtype(seen.device), device=seen.device).expand(seen.shape)


def _disagreements(counts: Counts, grade: Tensor, square: Tensor, graded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(...)`` observed and expected squared distances, and the mean grade of the targets."""
    second = (counts.either * square).sum(-1)
    of_targets, of_predictions, product = (torch.stack([counts.actual, counts.predicted, graded]) * grade).sum(-1)
    mean = of_targets / counts.actual.sum(-1)
    observed = torch.sub(second, product, alpha=2)
    return observed, torch.addcmul(second, mean, of_predictions, value=-2), mean
