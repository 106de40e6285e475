"""A metric of labels to first order where the last decisions stand, as two losses of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.losses.interpolated.expected_utility import (
    Weight,
    binary_gradients,
    binary_losses,
    utility_gradients,
    utility_losses,
)
from metricgrad.losses.interpolated.memory import Memory, Remembered
from metricgrad.losses.interpolated.utility_table import UtilityTable
from metricgrad.metrics.class_utilities import Utilities
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfTables
from metricgrad.metrics.utilities import values_and_utilities, values_of_labels
from metricgrad.refactoring.batch import Batch

_MOST_CUTS = 63


@dataclass(frozen=True)
class OfRows:
    """The two losses of one batch, UCE and EXP of :mod:`metricgrad.losses.interpolated.expected_utility`.

    Attributes:
        gradients: in the scores.
        losses: as functions of the scores.
        cross_entropy: 0-d, of the same rows, and its gradient: a byproduct.
        values: ``(2,)`` of the metric, of the batch and of ideal decisions.
        on_memory: the same of the memory, for batches on which the metric is undefined.
        informs: 0-d boolean, whether some decisions are worth more than others.
    """

    gradients: tuple[Tensor, Tensor]
    losses: Callable[[Tensor], tuple[Tensor, Tensor]]
    cross_entropy: tuple[Tensor, Tensor]
    values: Tensor
    on_memory: Callable[[], Tensor]
    informs: Tensor


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

    @torch.no_grad()
    def of(self, batch: Batch, *, keep: bool) -> OfRows:
        """Of one batch, which is remembered where ``keep``."""
        scores, targets = batch.scores.detach(), batch.targets.long()
        given = batch.context.get("sample_weight")
        weight = 1.0 / len(targets) if given is None else given.to(scores.dtype) / given.to(scores.dtype).sum()
        of = self._of_scores if scores.ndim == 1 else self._of_classes
        return of(batch, scores, targets, weight, keep)

    def _of_classes(self, batch: Batch, scores: Tensor, targets: Tensor, weight: Weight, keep: bool) -> OfRows:
        classes, given = scores.shape[1], batch.context.get("sample_weight")
        predicted = scores.argmax(1)
        at = self._memory.joined(predicted, targets, given, keep=keep)
        known = at._replace(values=at.values.long(), targets=at.targets.long())
        found, utilities = self._standing(batch, known, predicted, targets, classes, keep)
        worth = utilities.rows(targets, scores)
        worth.sub_(worth.amin(1, keepdim=True))
        most = worth.amax(1)
        logp, q = scores.log_softmax(1), self._q
        p = logp.exp()
        right = targets[:, None]
        of_right = -(logp.gather(1, right)[:, 0] * weight).sum()
        slope = p * (weight[:, None] if isinstance(weight, Tensor) else weight)
        of_one = -weight if isinstance(weight, Tensor) else p.new_full((1,), -weight)
        slope.scatter_add_(1, right, of_one.expand(len(p))[:, None])
        return OfRows(
            utility_gradients(p, worth, most.clamp(min=1e-12), weight, q),
            lambda s: utility_losses(s, worth, weight, q),
            (of_right, slope),
            found,
            lambda: self._on_memory(known, classes),
            (most > 0).any(),
        )

    def _of_scores(self, batch: Batch, scores: Tensor, targets: Tensor, weight: Weight, keep: bool) -> OfRows:
        at = self._memory.joined(scores, targets, batch.context.get("sample_weight"), keep=keep)
        cut = self._cut(at)
        known = at._replace(values=(at.values > cut).long(), targets=at.targets.long())
        found, utilities = self._standing(batch, known, scores > 0, targets, 2, keep)
        rows = utilities.rows(torch.arange(2, device=scores.device), scores)
        gain = (rows[:, 1] - rows[:, 0])[targets]
        cut, q, y = cut.to(scores.dtype), self._q, targets.to(scores.dtype)
        each = torch.nn.functional.binary_cross_entropy_with_logits(scores, y, reduction="none")
        # UCE has the threshold in it, EXP is taken at the one that is best now
        return OfRows(
            binary_gradients(scores, scores - cut, gain, weight, q),
            lambda s: binary_losses(s, s - cut, gain, weight, q),
            ((each * weight).sum(), (scores.sigmoid() - y) * weight),
            found,
            lambda: self._on_memory(known, 1),
            (gain != 0).any(),
        )

    def _cut(self, at: Remembered) -> Tensor:
        """0-d: the threshold at which the metric is best on the memory; 0 where none is better."""
        path = self._metric.fast_path
        count = _MOST_CUTS if isinstance(path, OfTables) else max(1, self._calls // 2 - 1)
        cuts = torch.cat([at.values.new_zeros(1), _quantiles(at.values, at.weight > 0, count)])
        if isinstance(path, OfTables):
            bounds, order = cuts.sort()
            tables = _tables_of_cuts(at, bounds)
            found = torch.empty_like(cuts).scatter_(0, order, path.values(tables))
        else:
            found = self._values((at.values > cuts[:, None]).long(), at, 1)
        best = torch.nan_to_num(found if self._metric.higher_is_better else -found, nan=-torch.inf).argmax()
        return cuts.index_select(0, best[None])[0]

    def _standing(
        self, batch: Batch, at: Remembered, predicted: Tensor, targets: Tensor, classes: int, keep: bool
    ) -> tuple[Tensor, Utilities]:
        """``(2,)`` values, and the utilities where the memory stands; ``at`` has labels."""
        new, rows = len(targets), len(at.targets)
        if not isinstance(self._metric.fast_path, OfTables):
            columns = 1 if batch.scores.ndim == 1 else classes
            calls = self._calls // 2 if columns == 1 else self._calls
            utilities = self._table.of(at, classes, calls, columns=columns, keep=keep)
            return self._called(batch, targets, classes), utilities
        labels = at.values.repeat(3, 1)
        labels[1, -new:], labels[2, -new:] = predicted, targets
        weight = at.weight.new_zeros(3, rows)
        weight[0], weight[1:, -new:] = at.weight * (rows / at.weight.sum()), at.weight[-new:]
        values, utilities = values_and_utilities(self._metric, labels, at.targets, weight, classes)
        return values[1:], utilities

    def _called(self, batch: Batch, targets: Tensor, classes: int) -> Tensor:
        """``(2,)`` values of a foreign metric on the batch."""
        scores = batch.scores.detach()
        right = 2 * targets - 1 if scores.ndim == 1 else torch.nn.functional.one_hot(targets, classes)
        return batch.values(self._metric, torch.stack([scores, right.to(scores)])).double()

    def _on_memory(self, at: Remembered, columns: int) -> Tensor:
        return self._values(torch.stack([at.values, at.targets]), at, columns)

    def _values(self, labels: Tensor, at: Remembered, columns: int) -> Tensor:
        """``(T,)`` values of ``(T, R)`` labels on the memory."""
        there = at.weight > 0
        labels, targets, weight = labels[:, there], at.targets[there].long(), at.weight[there]
        weighted = "sample_weight" in self._metric.context
        return values_of_labels(self._metric, labels, targets, columns, sample_weight=weight if weighted else None)


def _quantiles(values: Tensor, there: Tensor, count: int) -> Tensor:
    """``(count,)`` evenly spaced quantiles of the values that are there, between the smallest and the largest."""
    ascending = torch.where(there, values, torch.inf).sort().values
    share = torch.linspace(0, 1, count + 2, dtype=values.dtype, device=values.device)[1:-1]
    place = share * (there.sum() - 1)
    below = place.floor()
    low, high = ascending[below.long()], ascending[place.ceil().long()]
    return torch.lerp(low, high, place - below)


def _tables_of_cuts(at: Remembered, bounds: Tensor) -> ConfusionTables:
    """The confusion table of each of K ascending thresholds; rows between two of them count as one."""
    count = len(bounds)
    cell = torch.bucketize(at.values, bounds) * 2 + at.targets.long()
    weight = at.weight.new_zeros(2 * count + 2).index_add_(0, cell, at.weight)
    cells = torch.arange(len(weight), device=weight.device)
    above = cells // 2 > torch.arange(count, device=weight.device)[:, None]
    return ConfusionTables.of(above.long(), cells % 2, weight.repeat(count, 1), 2)
