"""Moves of rows from class to class, valued by what a metric of labels is a function of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.metrics.families.class_counts import Counts
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfClasses, OfLabels
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.class_changes import ClassChanges
from metricgrad.refactoring.moves import EntryMoves, Moves

_AT_ONCE = 2**18
"""Numbers that one call of a metric may take."""


@dataclass(frozen=True, kw_only=True)
class LabelMoves(Moves):
    """Moves of rows from class to class; of a metric of labels no score sets are made.

    Attributes:
        changes: which rows are tried in which class; classes are numbers of its columns.
        predicted: ``(R,)`` classes before any move.
        targets: ``(R,)``.
        entries: makes the same moves as score sets, for any metric.
    """

    changes: ClassChanges
    predicted: Tensor
    targets: Tensor
    entries: Callable[[], EntryMoves]

    def change(self, delta: Tensor) -> Tensor:
        """See :class:`Moves`."""
        return self.changes.change(delta)

    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of weighted labels, or of sums over classes, where the metric is a function of those."""
        path, weight = metric.fast_path, batch.context.get("sample_weight")
        if not isinstance(path, OfLabels) or not path.takes(batch.context):
            return self.entries().values(metric, batch)
        weight = wide(torch.ones_like(self.targets) if weight is None else weight)
        if isinstance(path, OfClasses):
            return self._by_sums(path, weight)
        labels, targets, weight = self.labels(weight)
        most = max(1, _AT_ONCE // (labels.shape[1] + self.changes.mass.shape[1]))
        found = torch.cat([metric.of_labels(part, targets, weight) for part in labels.split(most)])
        return found[:1], found[1:]

    def _by_sums(self, path: OfClasses, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A row that moves changes the terms of the class that it leaves, and of the one that it comes to."""
        tried, columns = self.changes, self.changes.mass.shape[1]

        def total(of: Tensor, weight: Tensor) -> Tensor:
            return weight.new_zeros(columns).index_add(0, of, weight)

        one = torch.ones_like(weight)
        actual, predicted = total(self.targets, weight), total(self.predicted, weight)
        hit = total(self.targets, weight * (self.targets == self.predicted))
        # a class is there as long as a row has it, whatever the row weighs
        targets, rows = total(self.targets, one) > 0, total(self.predicted, one)
        terms = path.terms(Counts(hit, actual, predicted, targets | (rows > 0)))

        def changed(at: Tensor, right: Tensor, by: Tensor, there: Tensor) -> Tensor:
            counts = Counts(hit[at] + by * (at == right), actual[at], predicted[at] + by, there)
            return path.terms(counts) - terms[at]

        own, right, by = tried.own, tried.right, weight[tried.first[tried.index]]
        left = changed(own, right, -by, targets[own] | (rows[own] > 1))[tried.where]
        came = changed(tried.to, right[tried.where], by[tried.where], torch.ones_like(tried.to, dtype=torch.bool))
        sums = terms.sum(0)
        return path.value(sums)[None], path.value(sums + (left + came))

    def labels(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(1 + M, L)`` predicted classes before any move and after each, ``(L,)`` targets and ``(L,)`` weights.

        Of a stratum the row that moves is one entry, and the others stay together as one.
        """
        tried = self.changes
        own = weight[tried.first]
        rest = own.new_zeros(len(own)).index_add(0, tried.stratum, weight) - own
        more = torch.bincount(tried.stratum) > 1
        of = torch.cat([tried.first[more], tried.first])
        out = self.predicted[of].expand(1 + len(tried.where), -1).clone()
        move = torch.arange(len(tried.where), device=out.device) + 1
        out[move, int(more.sum()) + tried.index[tried.where]] = tried.to
        return out, self.targets[of], torch.cat([rest[more], own])
