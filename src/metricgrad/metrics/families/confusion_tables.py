"""Counts of each class in several sets of rows, and one such set smoothed, so that it has a slope everywhere."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metricgrad.functional.sums_at import sums_at
from metricgrad.metrics.families.class_counts import Counts

_EPS = 1e-3
_PSEUDO_ROWS = 4.0  # all cells together weigh at most so many rows
_ALL_CELLS = 64


@dataclass(frozen=True)
class Smooth:
    """What the cells of a smoothed table of many classes have more than was counted.

    Attributes:
        small: 0-d, how much.
        rows: ``(C,)`` 1 for targets whose cells have it.
        columns: ``(C,)`` predictions, likewise.
        absent: ``(1,)`` the class that stands for those which occur nowhere.
    """

    small: Tensor
    rows: Tensor
    columns: Tensor
    absent: Tensor


@dataclass(frozen=True)
class ConfusionTables:
    """The margins and the diagonals of S confusion tables; of at most 64 classes the tables themselves.

    Attributes:
        counts: ``(S, C)`` each.
        cells: ``(S, C, C)`` by target and prediction; None of more classes.
        rows: ``(S, R)`` targets, predictions and weights, which are then counted again.
        smooth: of the first table, where it is smoothed and has more classes.
    """

    counts: Counts
    cells: Tensor | None
    rows: tuple[Tensor, Tensor, Tensor] | None = None
    smooth: Smooth | None = None

    @classmethod
    def of_cells(cls, cells: Tensor) -> ConfusionTables:
        """Of ``(S, C, C)`` tables."""
        actual, predicted = cells.sum(2), cells.sum(1)
        return cls(Counts(cells.diagonal(dim1=1, dim2=2), actual, predicted), cells)

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
            smooth: what one row weighs, where the first table is to have a small count more in its cells, so that it
                has a slope everywhere: of at most 64 classes in all cells, of more in those of targets that occur and
                of predictions that occur, and of one class that occurs nowhere and stands for all such. 0: none has.

        Cost:
            O(S R + S C), and no synchronisation.
        """
        if classes <= _ALL_CELLS:
            cell = labels.add(targets, alpha=classes)
            empty = _empty(len(weight), classes**2, in_each_cell(classes, smooth), weight.dtype, weight.device)
            tables = cls.of_cells(sums_at(cell, weight, empty).view(-1, classes, classes))
        else:
            targets, empty = targets.expand(labels.shape), weight.new_zeros(len(weight), classes)
            hit = sums_at(targets, weight * (labels == targets), empty)
            actual, predicted = sums_at(targets, weight, empty), sums_at(labels, weight, empty)
            counts = Counts(hit, actual, predicted)
            tables = cls(counts, None, (targets, labels, weight))
        if there is not None:
            rows, targets = there.to(weight), targets.expand(labels.shape)
            seen = weight.new_zeros(len(weight), classes).scatter_add_(1, targets, rows).scatter_add_(1, labels, rows)
            tables = tables._seen_where(seen > 0)
        return tables._smoothed(smooth) if smooth and tables.cells is None else tables

    def seen_where(self, cells: Tensor) -> ConfusionTables:
        """With the classes seen that occur in ``(S, C, C)`` further tables, as of rows that weigh nothing."""
        return self._seen_where(type(self).of_cells(cells).counts.seen)

    def _seen_where(self, seen: Tensor) -> ConfusionTables:
        return replace(self, counts=self.counts._replace(marked=seen | self.counts.seen))

    def _smoothed(self, weight: float) -> ConfusionTables:
        """Of many classes, what :meth:`of` says of ``smooth``; in place."""
        hit, actual, predicted, seen = *self.counts[:3], self.counts.seen
        absent = seen[0].int().argmin(keepdim=True)
        rows, columns = (actual[0] > 0).to(hit), seen[0].to(hit).index_fill(0, absent, 1.0)
        among = rows.sum(), columns.sum()
        small = (_PSEUDO_ROWS / (among[0] * among[1])).clamp(max=_EPS) * weight
        hit[0] += rows * small
        actual[0] += rows * (small * among[1])
        predicted[0] += columns * (small * among[0])
        seen[0] = columns > 0
        return replace(self, counts=self.counts._replace(marked=seen), smooth=Smooth(small, rows, columns, absent))

    def graded(self, grade: Tensor) -> Tensor:
        """``(S, C)``: the sum of the predicted grades of each target, of ``(S, C)`` grades of the classes."""
        if self.cells is not None:
            return (self.cells @ grade[..., None])[..., 0]
        assert self.rows is not None
        targets, labels, weight = self.rows
        sums = torch.zeros_like(grade).scatter_add_(1, targets, weight * grade.gather(1, labels))
        if self.smooth is not None:
            sums[0] += self.smooth.rows * ((self.smooth.columns * grade[0]).sum() * self.smooth.small)
        return sums

    def shared(self, of_classes: Tensor) -> Tensor:
        """``(C,)`` numbers of predictions, classes that occur nowhere having that of the one that stands for them."""
        if self.smooth is None:
            return of_classes
        return torch.where(self.counts.seen[0], of_classes, of_classes.index_select(0, self.smooth.absent))

    def hit(self, of_classes: Tensor) -> Tensor:
        """``(C,)`` numbers of hits, 0 of classes that are no target: rows of them weigh nothing, it may be infinite."""
        return of_classes if self.smooth is None else of_classes.masked_fill(self.smooth.rows == 0, 0)


def in_each_cell(classes: int, row: float) -> float:
    """The small count that a smoothed table of few classes has more in all its cells, where a row weighs so much."""
    return row * min(_EPS, _PSEUDO_ROWS / classes**2)


@functools.lru_cache(maxsize=8)
def _empty(sets: int, cells: int, small: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(S, K)`` zeros, a small number in the first set; made once, see :mod:`metricgrad.functional.constants`."""
    with torch.inference_mode(False):
        found = torch.zeros(sets, cells, dtype=dtype, device=device)
        found[0].fill_(small)
        return found
