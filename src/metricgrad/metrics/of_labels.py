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
from metricgrad.metrics.families.confusion_tables import ConfusionTables
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
    def slopes(self, tables: ConfusionTables) -> tuple[Tensor, ClassUtilities]:
        r"""``(S,)`` values, and :math:`\partial g / \partial M_{yb}` at the first table M."""


class _OfCounts(OfTables, abc.ABC):
    """Abstract: a function of the hits, targets and predictions of each class."""

    @abc.abstractmethod
    def _value(self, counts: Counts) -> Tensor:
        """``(...)`` of ``(..., C)`` counts, differentiable in them."""

    def values(self, tables: ConfusionTables) -> Tensor:
        """See :class:`OfTables`."""
        return self._value(tables.split(tables.counts))

    def slopes(self, tables: ConfusionTables) -> tuple[Tensor, ClassUtilities]:
        """See :class:`OfTables`."""
        with torch.enable_grad():
            counts = tables.counts.requires_grad_()
            values = self._value(tables.split(counts))
            (slopes,) = torch.autograd.grad(values[0], counts)
        hit, _, predicted = slopes[:, 0].nan_to_num()
        return values.detach(), ClassUtilities(tables.shared(predicted), hit)


@dataclass(frozen=True)
class OfClassCounts(_OfCounts):
    """A metric of predicted labels that is a function of the hits, targets and predictions of each class.

    Attributes:
        of_counts: ``(..., C)`` counts to ``(...)``, differentiable in them.
    """

    of_counts: Callable[[Counts], Tensor] = field(kw_only=True)

    def _value(self, counts: Counts) -> Tensor:
        return self.of_counts(counts)


@dataclass(frozen=True, kw_only=True)
class OfClasses(_OfCounts):
    """A metric of predicted labels that is a function of sums over classes: a row that moves changes two terms.

    Attributes:
        terms: ``(..., C)`` counts to ``(..., C, K)``, what each class adds to K sums.
        value: ``(..., K)`` sums to ``(...)``.
    """

    names: ClassNames = "alike"
    terms: Callable[[Counts], Tensor]
    value: Callable[[Tensor], Tensor]

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """The sums."""
        return whole if scores.ndim == targets.ndim else _SUMS

    def _value(self, counts: Counts) -> Tensor:
        return self.value(self.terms(counts).sum(-2))


@dataclass(frozen=True)
class OfGrades(OfTables):
    """Quadratic kappa, whose classes are grades: a miss costs the square of its distance.

    Attributes:
        classes: how many grades there are; None where those that occur are counted, in their order.
    """

    classes: int | None = field(default=None, kw_only=True)

    def values(self, tables: ConfusionTables) -> Tensor:
        """See :class:`OfTables`."""
        grade = self._grades(tables.seen)
        return _quadratic_kappa(tables.split(tables.counts), grade, tables.graded(grade))

    def slopes(self, tables: ConfusionTables) -> tuple[Tensor, ClassUtilities]:
        """See :class:`OfTables`."""
        grade = self._grades(tables.seen)
        with torch.enable_grad():
            counts, graded = tables.counts.requires_grad_(), tables.graded(grade).requires_grad_()
            values = _quadratic_kappa(tables.split(counts), grade, graded)
            slopes, near = torch.autograd.grad(values[0], (counts, graded))
        hit, _, predicted = slopes[:, 0].nan_to_num()
        predicted, grade = tables.shared(predicted), tables.shared(grade[0])
        return values.detach(), ClassUtilities(predicted, hit, near[0].nan_to_num(), grade)

    def _grades(self, seen: Tensor) -> Tensor:
        """``(S, C)`` the grade that each class is."""
        if self.classes is None:
            return (seen.cumsum(-1) - 1).double()
        if (found := seen.shape[-1]) > max(2, self.classes):
            raise MetricgradError(f"quadratic_kappa: num_classes={self.classes}, but there is a grade {found - 1}")
        return torch.arange(found, dtype=torch.float64, device=seen.device).repeat(len(seen), 1)


def _quadratic_kappa(counts: Counts, grade: Tensor, graded: Tensor) -> Tensor:
    r""":math:`1 - \sum_{yb} M_{yb} (g_y - g_b)^2 / \sum_{yb} a_y p_b (g_y - g_b)^2 / n`, by moments of the margins."""
    second = (counts.either * grade.square()).sum(-1)
    actual, predicted = (counts.actual * grade).sum(-1), (counts.predicted * grade).sum(-1)
    observed = second - 2 * (grade * graded).sum(-1)
    expected = second - 2 * actual * predicted / counts.actual.sum(-1)
    return torch.where(counts.seen.sum(-1) < 2, torch.nan, 1 - observed / expected)
