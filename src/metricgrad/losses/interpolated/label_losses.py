"""A metric of labels to first order where the last decisions stand, as two losses of rows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.constants import filled
from metricgrad.losses.interpolated.expected_utility import (
    Weight,
    binary_gradients,
    binary_losses,
    utility_gradients,
    utility_losses,
)
from metricgrad.losses.interpolated.memory import Memory, Remembered
from metricgrad.losses.interpolated.twin import Twin
from metricgrad.losses.interpolated.utility_table import UtilityTable
from metricgrad.metrics.class_utilities import Utilities
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfTables
from metricgrad.metrics.utilities import values_of_labels
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch

_MOST_CUTS = 63


@dataclass(frozen=True)
class OfRows:
    """The two losses of one batch, UCE and EXP of :mod:`metricgrad.losses.interpolated.expected_utility`.

    Attributes:
        gradients: in the scores.
        losses: as functions of the scores.
        cross_entropy: the gradient of cross-entropy, a byproduct.
        values: 0-d each, of the metric, of the batch and of ideal decisions.
        on_memory: ``(2,)``, the same of the memory, for batches on which the metric is undefined.
        worth: 0-d, the most that one decision is worth more than another.
    """

    gradients: tuple[Tensor, Tensor]
    losses: Callable[[Tensor], tuple[Tensor, Tensor]]
    cross_entropy: Tensor
    values: tuple[Tensor, Tensor]
    on_memory: Callable[[], Tensor]
    worth: Tensor


class LabelLosses:
    """The losses of rows with one label each.

    Args:
        metric: of labels.
        memory: of the last decisions.
        utilities: what each decision is worth, of a foreign metric.
        calls: of a foreign metric in one step.
        q: tail exponent of EXP.
    """

    def __init__(self, metric: Metric, memory: Memory, utilities: UtilityTable, *, calls: int, q: float) -> None:
        self._metric, self._memory, self._table, self._calls, self._q = metric, memory, utilities, calls, q
        self.twin = Twin(metric)
        #: Of the scores whose decisions are remembered; None before the first.
        self.columns: int | None = None

    @torch.no_grad()
    def of(self, batch: Batch, *, step: int, keep: bool) -> OfRows:
        """Of one batch, which is remembered where ``keep``."""
        if keep and self.twin.due(step):
            self.twin.compare(self._of(batch, keep=False).values, lambda: self._called(batch))
        return self._of(batch, keep=keep)

    def _of(self, batch: Batch, *, keep: bool) -> OfRows:
        scores, targets = batch.scores.detach(), batch.targets.long()
        given = batch.context.get("sample_weight")
        weight = 1.0 / len(targets) if given is None else given.to(scores.dtype) / given.to(scores.dtype).sum()
        columns = 1 if scores.ndim == 1 else scores.shape[1]
        if self.columns not in (None, columns):
            self._memory.forget()  # decisions between other classes
        self.columns = columns
        of = self._of_scores if scores.ndim == 1 else self._of_classes
        return of(batch, scores, targets, weight, keep)

    def _of_classes(self, batch: Batch, scores: Tensor, targets: Tensor, weight: Weight, keep: bool) -> OfRows:
        classes, given = scores.shape[1], batch.context.get("sample_weight")
        predicted = scores.argmax(1)
        at = self._memory.joined(predicted, targets, given, keep=keep)
        labels = torch.stack([at.values, at.values, at.targets]).long()
        known = at._replace(values=labels[0], targets=labels[2])
        found, utilities = self._standing(batch, known, labels, targets, classes, keep)
        worth = utilities.rows(targets, scores)
        worth.sub_(worth.amin(1, keepdim=True))
        most, p = worth.amax(1, keepdim=True), scores.softmax(1)
        if isinstance(weight, Tensor):
            slope = (p * weight[:, None]).scatter_add_(1, targets[:, None], -weight[:, None])
        else:
            slope = (p * weight).scatter_(1, targets[:, None], -weight, reduce="add")
        return OfRows(
            utility_gradients(p, worth, most.clamp(min=1e-12), weight, self._q),
            lambda s: utility_losses(s, worth, weight, self._q),
            slope,
            found,
            lambda: self._on_memory(known, classes),
            most.max(),
        )

    def _of_scores(self, batch: Batch, scores: Tensor, targets: Tensor, weight: Weight, keep: bool) -> OfRows:
        at = self._memory.joined(scores, targets, batch.context.get("sample_weight"), keep=keep)
        cut = self._cut(at)
        labels = torch.stack([at.values > cut, at.values > 0, at.targets > 0]).long()
        known = at._replace(values=labels[0], targets=labels[2])
        found, utilities = self._standing(batch, known, labels, targets, 2, keep)
        gain = utilities.gains().to(scores.dtype)[targets]
        cut, q = cut.to(scores.dtype), self._q
        # UCE has the threshold in it, EXP is taken at the one that is best now
        return OfRows(
            binary_gradients(scores, cut - scores, gain, weight, q),
            lambda s: binary_losses(s, s - cut, gain, weight, q),
            scores.sigmoid().sub_(targets).mul_(weight),
            found,
            lambda: self._on_memory(known, 1),
            torch.linalg.vector_norm(gain, torch.inf),
        )

    def _cut(self, at: Remembered) -> Tensor:
        """0-d: the threshold at which the metric is best on the memory; 0 where none is better."""
        path = self.twin.path
        count = _MOST_CUTS if isinstance(path, OfTables) else max(1, self._calls // 2 - 1)
        zero = filled(0.0, 1, at.values.dtype, at.values.device)
        cuts = torch.cat([zero, _quantiles(at.values, at.weight <= 0, count)])
        if isinstance(path, OfTables):
            bounds, order = cuts.sort()
            found = torch.empty_like(cuts).scatter_(0, order, path.values(_tables_of_cuts(at, bounds)))
        else:
            found = self._values((at.values > cuts[:, None]).long(), at, 1)
        best = torch.nan_to_num(found if self._metric.higher_is_better else -found, nan=-torch.inf).argmax()
        return cuts.index_select(0, best[None])[0]

    def _standing(
        self, batch: Batch, at: Remembered, labels: Tensor, targets: Tensor, classes: int, keep: bool
    ) -> tuple[tuple[Tensor, Tensor], Utilities]:
        """Two values, and the utilities where the memory stands.

        Args:
            batch: with ``(N,)`` targets.
            at: the memory, its labels in place of its values.
            labels: ``(3, R)`` of the memory, of the batch at its end, and ideal ones.
            targets: of the batch, whole numbers.
            classes: C.
            keep: whether to learn from this step.
        """
        path = self.twin.path
        if not isinstance(path, OfTables):
            columns = 1 if batch.scores.ndim == 1 else classes
            calls = self._calls - 2 - (self._calls // 2 if columns == 1 else 0)
            utilities = self._table.of(at, classes, calls, columns=columns, keep=keep)
            now, ideal = self.twin.tell_cost(lambda: self._called(batch), self._calls).unbind()
            return (now, ideal), utilities
        before = len(at.weight) - len(targets)
        absent, own = filled(0.0, before, at.weight.dtype, at.weight.device), at.weight[before:]
        weight = torch.cat([at.weight / at.weight.sum(), absent, own, absent, own]).view(3, -1)
        there = None
        if batch.context:  # rows of weight 0 are there
            last = torch.arange(len(at.weight), device=own.device) >= before
            there = torch.stack([at.weight > 0, last, last])
        tables = ConfusionTables.of(labels, at.targets, weight, classes, there, smooth=1 / len(at.weight))
        values, slopes = path.values_and_slopes(tables)
        _, now, ideal = values.unbind()
        return (now, ideal), slopes if self._metric.higher_is_better else -slopes

    def _called(self, batch: Batch) -> Tensor:
        """``(2,)`` values of the metric itself, of the batch and of ideal decisions."""
        scores, targets = batch.scores.detach(), batch.targets.long()
        right = 2 * targets - 1 if scores.ndim == 1 else torch.nn.functional.one_hot(targets, scores.shape[1])
        return wide(batch.values(self._metric, torch.stack([scores, right.to(scores)])))

    def _on_memory(self, at: Remembered, columns: int) -> Tensor:
        labels, path = torch.stack([at.values, at.targets]), self.twin.path
        if isinstance(path, OfTables):
            return path.values(ConfusionTables.of(labels, at.targets, at.weight.repeat(2, 1), max(2, columns)))
        return self._values(labels, at, columns)

    def _values(self, labels: Tensor, at: Remembered, columns: int) -> Tensor:
        """``(T,)`` values of ``(T, R)`` labels on the memory."""
        there = at.weight > 0
        labels, targets, weight = labels[:, there], at.targets[there].long(), at.weight[there]
        weighted = "sample_weight" in self._metric.context
        return values_of_labels(self._metric, labels, targets, columns, sample_weight=weight if weighted else None)


def _quantiles(values: Tensor, absent: Tensor, count: int) -> Tensor:
    """``(count,)`` evenly spaced quantiles of the values that are there, between the smallest and the largest."""
    ascending = values.masked_fill(absent, torch.inf).sort().values
    place = _shares(count, values.dtype, values.device) * (len(values) - 1 - absent.sum())
    around = torch.stack([place, place.ceil()]).long()
    low, high = ascending[around].unbind()
    return torch.lerp(low, high, place - around[0])


@functools.cache
def _shares(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.linspace(0, 1, count + 2, dtype=dtype, device=device)[1:-1]


def _tables_of_cuts(at: Remembered, bounds: Tensor) -> ConfusionTables:
    """The confusion table of each of K ascending thresholds, from what lies between two of them."""
    between = at.targets.long().add_(torch.bucketize(at.values, bounds), alpha=2)
    weight = at.weight.new_zeros(2 * len(bounds) + 2).index_add_(0, between, at.weight).view(-1, 2)
    below = weight.cumsum(0)
    return ConfusionTables.of_cells(torch.stack([below[:-1], below[-1] - below[:-1]], 2))
