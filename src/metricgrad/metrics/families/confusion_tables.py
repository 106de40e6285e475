"""Counts of each class in several sets of rows, and one such set smoothed, so that it has a slope everywhere."""

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
    """The margins and the diagonals of S confusion tables; of at most 64 classes the tables themselves.

    Attributes:
        counts: ``(S, C)`` each.
        cells: ``(S, C, C)`` by target and prediction; None of more classes.
        rows: ``(S, R)`` targets, predictions and weights, which are then counted again.
        smooth: of more classes, what one row weighs where the first table is to be smoothed.
    """

    counts: Counts
    cells: Tensor | None
    rows: tuple[Tensor, Tensor, Tensor] | None = None
    smooth: float = 0.0

    @classmethod
    def of_cells(cls, cells: Tensor) -> ConfusionTables:
        """Of ``(S, C, C)`` tables."""
        actual, predicted = cells.sum(2), cells.sum(1)
        return cls(Counts(cells.diagonal(dim1=1, dim2=2), actual, predicted, (actual + predicted) > 0), cells)

    @classmethod
    def of(
        cls,
        labels: Tensor,
        targets: Tensor,
        weight: Tensor,
        classes: int,
        there: Tensor | None = None,
        *,
        smooth: float = 0.0,
    ) -> ConfusionTables:
        """Count.

        Args:
            labels: ``(S, R)`` predicted classes.
            targets: ``(R,)`` classes.
            weight: ``(S, R)`` float64; 0 where a row is not in a set.
            classes: C.
            there: ``(S, R)`` booleans, where some rows are in a set that weigh nothing: a class is seen all the same.
            smooth: what one row weighs, where the first table is to be :attr:`smoothed`; 0 leaves it as it is.

        Cost:
            O(S R + S C), and no synchronisation.
        """
        if classes <= _ALL_CELLS:
            cell = labels.add(targets, alpha=classes)
            cells = weight.new_zeros(weight.shape[0], classes**2)
            if smooth:
                cells[0].fill_(smooth * min(_EPS, _PSEUDO_ROWS / classes**2))
            tables = cls.of_cells(cells.scatter_add_(1, cell, weight).view(-1, classes, classes))
        else:
            targets, empty = targets.expand(labels.shape), weight.new_zeros(len(weight), classes)
            hit = empty.scatter_add(1, targets, weight * (labels == targets))
            actual, predicted = empty.scatter_add(1, targets, weight), empty.scatter_add(1, labels, weight)
            counts = Counts(hit, actual, predicted, (actual + predicted) > 0)
            tables = cls(counts, None, (targets, labels, weight), smooth)
        if there is None:
            return tables
        rows, targets = there.to(weight), targets.expand(labels.shape)
        seen = weight.new_zeros(len(weight), classes).scatter_add_(1, targets, rows).scatter_add_(1, labels, rows) > 0
        return replace(tables, counts=tables.counts._replace(seen=seen | tables.counts.seen))

    def graded(self, grade: Tensor) -> Tensor:
        """``(S, C)``: the sum of the predicted grades of each target, of ``(S, C)`` grades of the classes."""
        if self.cells is not None:
            return (self.cells * grade[:, None]).sum(2)
        assert self.rows is not None
        targets, labels, weight = self.rows
        return torch.zeros_like(grade).scatter_add_(1, targets, weight * grade.gather(1, labels))

    @property
    def smoothed(self) -> SmoothTable:
        """The first table with a small count more in its cells, where :meth:`of` was told so.

        Of at most 64 classes these are all cells, and were counted so; of more those of targets that occur and of
        predictions that occur, and of one class that occurs nowhere and stands for all such.
        """
        hit, actual, predicted, seen = (x[0] for x in self.counts)
        if self.cells is not None:
            return SmoothTable(self, Counts(hit, actual, predicted, seen))
        absent = seen.int().argmin(keepdim=True)
        rows, columns = (actual > 0).to(hit), seen.to(hit).index_fill(0, absent, 1.0)
        among = rows.sum(), columns.sum()
        small = (_PSEUDO_ROWS / (among[0] * among[1])).clamp(max=_EPS) * self.smooth
        counts = Counts(
            hit + rows * small, actual + rows * (small * among[1]), predicted + columns * (small * among[0]),
            columns > 0,
        )  # fmt: skip
        return SmoothTable(self, counts, small, rows, columns, absent)


@dataclass(frozen=True)
class SmoothTable:
    """One table, smoothed.

    Attributes:
        tables: whose first it is.
        counts: ``(C,)`` each.
        small: 0-d, what its cells have more than that one; None where it has as much, as of at most 64 classes.
        rows: ``(C,)`` 1 for targets whose cells have it.
        columns: ``(C,)`` predictions, likewise.
        absent: ``(1,)`` the class that stands for those which occur nowhere.
    """

    tables: ConfusionTables
    counts: Counts
    small: Tensor | None = None
    rows: Tensor | None = None
    columns: Tensor | None = None
    absent: Tensor | None = None

    def graded(self, grade: Tensor) -> Tensor:
        """``(C,)``: as :meth:`ConfusionTables.graded` of ``(C,)`` grades."""
        sums = self.tables.graded(grade.expand(len(self.tables.counts.hit), -1))[0]
        if self.small is None or self.rows is None or self.columns is None:
            return sums
        return sums + self.rows * ((self.columns * grade).sum() * self.small)

    def shared(self, of_classes: Tensor) -> Tensor:
        """``(C,)`` numbers of predictions, classes that occur nowhere having that of the one that stands for them."""
        if self.absent is None:
            return of_classes
        return torch.where(self.counts.seen, of_classes, of_classes.index_select(0, self.absent))
