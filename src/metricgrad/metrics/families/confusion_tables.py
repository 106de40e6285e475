"""Counts of each class in several sets of one list of rows, with nothing but weights that tells the sets apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metricgrad.metrics.families.class_counts import Counts

_EPS = 1e-3
_PSEUDO_ROWS = 4.0  # all cells together weigh at most so many rows
_ALL_CELLS = 64


@dataclass(frozen=True)
class ConfusionTables:
    """The margins and diagonals of S confusion tables.

    Attributes:
        labels: ``(S, R)`` predicted classes.
        targets: ``(S, R)`` classes.
        weight: ``(S, R)`` float64; 0 where a row is not in a set.
        counts: ``(3, S, C)``: hits, targets and predictions.
        seen: ``(S, C)`` which classes occur.
        smoothing: of the first table; None where it is as it is.
    """

    labels: Tensor
    targets: Tensor
    weight: Tensor
    counts: Tensor
    seen: Tensor
    smoothing: Smoothing | None = None

    @classmethod
    def of(cls, labels: Tensor, targets: Tensor, weight: Tensor, classes: int) -> ConfusionTables:
        """Count.

        Args:
            labels: ``(S, R)`` predicted classes.
            targets: ``(R,)`` classes.
            weight: ``(S, R)`` float64.
            classes: C.

        Cost:
            O(S R + S C), and no synchronisation.
        """
        targets = targets.expand(weight.shape)
        counts = weight.new_zeros(3, len(weight), classes)
        counts[0].scatter_add_(1, targets, weight * (labels == targets))
        counts[1].scatter_add_(1, targets, weight)
        counts[2].scatter_add_(1, labels, weight)
        return cls(labels, targets, weight, counts, (counts[1] + counts[2]) > 0)

    def smoothed(self) -> ConfusionTables:
        """With a small count more in cells of the first table, so that what no row does yet has a slope too.

        Of at most 64 classes these are all cells; of more those of targets that occur and of predictions that occur,
        and of one class that occurs nowhere and stands for all such.
        """
        counts, seen = self.counts.clone(), self.seen.clone()
        classes = seen.shape[1]
        if classes <= _ALL_CELLS:
            small = min(_EPS, _PSEUDO_ROWS / classes**2)
            counts[0, 0] += small
            counts[1:, 0] += small * classes
            seen[0] = True
            return replace(self, counts=counts, seen=seen, smoothing=Smoothing(small))
        absent = seen[0].int().argmin(keepdim=True)
        rows, columns = (counts[1, 0] > 0).to(counts), seen[0].to(counts).index_fill(0, absent, 1.0)
        cells = torch.stack([rows, columns])
        among = cells.sum(1)
        small = (_PSEUDO_ROWS / among.prod()).clamp(max=_EPS)
        counts[0, 0] += rows * small
        counts[1:, 0] += cells * (small * among.flip(0))[:, None]
        seen[0] = columns > 0
        return replace(self, counts=counts, seen=seen, smoothing=Smoothing(small, rows, columns, absent))

    def split(self, counts: Tensor) -> Counts:
        """As the functions of counts take them."""
        return Counts(counts[0], counts[1], counts[2], self.seen)

    def graded(self, grade: Tensor) -> Tensor:
        """``(S, C)``: the sum of the predicted grades of each target, of ``(S, C)`` grades of the classes."""
        sums = torch.zeros_like(grade).scatter_add_(1, self.targets, self.weight * grade.gather(1, self.labels))
        if self.smoothing is not None:
            sums[0] += self.smoothing.rows * ((self.smoothing.columns * grade[0]).sum() * self.smoothing.small)
        return sums

    def shared(self, of_classes: Tensor) -> Tensor:
        """``(C,)`` numbers of the first table's predictions, classes that occur nowhere having that of one of them."""
        if self.smoothing is None or self.smoothing.absent is None:
            return of_classes
        return torch.where(self.seen[0], of_classes, of_classes.index_select(0, self.smoothing.absent))


@dataclass(frozen=True)
class Smoothing:
    """What was added to a table.

    Attributes:
        small: to each of its cells; 0-d, or a number.
        rows: ``(C,)`` 1 for targets whose cells have it; or 1 of all.
        columns: ``(C,)`` predictions, likewise.
        absent: ``(1,)`` the class that stands for those which occur nowhere; None of at most 64 classes.
    """

    small: Tensor | float
    rows: Tensor | float = 1.0
    columns: Tensor | float = 1.0
    absent: Tensor | None = None
