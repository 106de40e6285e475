"""A metric of labels to first order where the last decisions stand, as two losses of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.constants import filled
from metricgrad.losses.interpolated.expected_utility import (
    Weight,
    binary_gradients,
    binary_losses,
    utility_gradients,
    utility_losses,
)
from metricgrad.losses.interpolated.memory import Memory, Remembered
from metricgrad.losses.interpolated.thresholds import at_best_threshold, best_threshold
from metricgrad.losses.interpolated.twin import Twin
from metricgrad.losses.interpolated.utility_table import UtilityTable
from metricgrad.metrics.class_utilities import Utilities
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfTables
from metricgrad.metrics.utilities import values_of_labels
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch


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
        at, path = self._memory.joined(scores, targets, batch.context.get("sample_weight"), keep=keep), self.twin.path
        better = self._metric.higher_is_better
        if isinstance(path, OfTables):
            given = bool(batch.context)  # rows of weight 0 are there
            cut, found, utilities = at_best_threshold(path, at, len(targets), given=given, higher_is_better=better)
        else:
            calls = max(1, self._calls // 2 - 1)
            cut = best_threshold(at, calls, lambda labels: self._values(labels, at, 1), higher_is_better=better)
            found, utilities = self._called_for(batch, _labelled(at, cut), 2, keep)
        gain = utilities.gains(scores.dtype)[targets]
        q = self._q
        # UCE has the threshold in it, EXP is taken at the one that is best now
        return OfRows(
            binary_gradients(scores, cut - scores, gain, weight, q),
            lambda s: binary_losses(s, s - cut, gain, weight, q),
            scores.sigmoid().sub_(targets).mul_(weight),
            found,
            lambda: self._on_memory(_labelled(at, cut), 1),
            torch.linalg.vector_norm(gain, torch.inf),
        )

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
            return self._called_for(batch, at, classes, keep)
        before = len(at.weight) - len(targets)
        absent, own = filled(0.0, before, at.weight.dtype, at.weight.device), at.weight[before:]
        weight = torch.cat([at.weight / at.total, absent, own, absent, own]).view(3, -1)
        there = None
        if batch.context:  # rows of weight 0 are there
            last = torch.arange(len(at.weight), device=own.device) >= before
            there = torch.stack([at.weight > 0, last, last])
        tables = ConfusionTables.of(labels, at.targets, weight, classes, there, smooth=1 / len(at.weight))
        standing = path.at(tables)
        _, now, ideal = path.shown(tables, standing.values()).unbind()
        slopes = standing.slopes()
        return (now, ideal), slopes if self._metric.higher_is_better else -slopes

    def _called_for(
        self, batch: Batch, at: Remembered, classes: int, keep: bool
    ) -> tuple[tuple[Tensor, Tensor], Utilities]:
        """The same of a metric that has to be called."""
        columns = 1 if batch.scores.ndim == 1 else classes
        calls = self._calls - 2 - (self._calls // 2 if columns == 1 else 0)
        utilities = self._table.of(at, classes, calls, columns=columns, keep=keep)
        now, ideal = self.twin.tell_cost(lambda: self._called(batch), self._calls).unbind()
        return (now, ideal), utilities

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


def _labelled(at: Remembered, cut: Tensor) -> Remembered:
    """The memory, whether its scores are above a threshold in place of them."""
    return at._replace(values=(at.values > cut).long(), targets=at.targets.long())
