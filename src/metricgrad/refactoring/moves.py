"""Elementary changes of decisions, and what a metric is worth after each: the second half of local interpolation.

A refactoring makes the moves and says how likely they are; it knows nothing of the metric's values. Each kind of moves
knows how to have a metric valued after them: on whole score sets, which any metric takes, or by the
:mod:`metricgrad.metrics.fast_paths` that the metric is registered with. The interpolated metric is then

    g(start) + change(g(after each move) - g(start)).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.metrics.fast_paths import ClassNames, OfHits, OfSentences
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch

#: Maps ``(M,)`` changes of the metric to the change that is expected of the soft decisions, differentiable in the
#: scores: 0-d, or ``(S,)`` from each of S starts.
Expectation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MoveRequest:
    """What a refactoring is asked to move.

    Attributes:
        scores: in a shape of :meth:`metricgrad.refactoring.base.Refactoring.check`, with graph.
        targets: as the metric takes them.
        softness: 0-d, the temperature that divides comparisons.
        q: tail exponent in (0, 1]; see :func:`metricgrad.functional.interpolation.power_loss`.
        budget: how many moves the metric may be called on.
        share: the share of the comparisons looked at, those nearest to being violated first.
        generator: for the choice among more moves than the budget allows.
        groups: ``(N,)`` query numbers, for metrics within groups.
        names: what the metric reads of the numbers of classes; see :class:`metricgrad.metrics.of_labels.OfLabels`.
    """

    scores: Tensor
    targets: Tensor
    softness: Tensor
    q: float
    budget: int
    share: float
    generator: torch.Generator
    groups: Tensor | None = None
    names: ClassNames = "kept"


class Moves(abc.ABC):
    """Abstract: M moves from one start or several.

    Attributes:
        origin: ``(M,)`` from which of the strict orders of the current scores each move starts; None where all start
            from one draw of the soft decisions.
    """

    origin: Tensor | None = None

    @abc.abstractmethod
    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(S,)`` values of the metric where the moves start, and ``(M,)`` after each."""

    @abc.abstractmethod
    def change(self, delta: Tensor) -> Tensor:
        """The change that is expected, of ``(M,)`` changes of the metric: 0-d, or ``(S,)`` from each start."""

    def delta(self, start: Tensor, values: Tensor) -> Tensor:
        """``(M,)`` changes of the metric; none where it is undefined."""
        return torch.nan_to_num(values - (start if self.origin is None else start[self.origin]))

    def inform(self, delta: Tensor) -> Tensor:
        """0-d boolean: whether these changes tell decisions apart; where nothing was tried, nothing speaks against."""
        return (delta != 0).any() | (len(delta) == 0)


@dataclass(frozen=True)
class NoMoves(Moves):
    """Where no decision is open, as of a list without positives.

    Attributes:
        scores: with graph, so that a loss has a gradient of zero.
    """

    scores: Tensor

    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the current scores, and none."""
        start = batch.values(metric, batch.scores.detach()[None])
        return start, start[:0]

    def change(self, delta: Tensor) -> Tensor:
        """Zero."""
        return self.scores.sum() * 0.0


@dataclass(frozen=True, kw_only=True)
class EntryMoves(Moves):
    """Moves as whole score sets, for any metric.

    Attributes:
        expectation: of their changes.
        base: ``(S, *scores.shape)`` score sets that the moves start from.
        stack: makes the ``(M, *scores.shape)`` score sets, one after each move.
        origin: see :class:`Moves`.
        decoded: whether score sets are what the metric reads of the scores, decoded already.
    """

    expectation: Expectation
    base: Tensor
    stack: Callable[[], Tensor]
    origin: Tensor | None = None
    decoded: bool = False

    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """By calls of the metric on whole score sets."""
        judge = metric.decoded() if self.decoded else metric
        found = batch.values(judge, torch.cat([self.base, self.stack()]))
        return found[: len(self.base)], found[len(self.base) :]

    def change(self, delta: Tensor) -> Tensor:
        """See :class:`Moves`."""
        return self.expectation(delta)


@dataclass(frozen=True, kw_only=True)
class HitMoves(Moves):
    """Rows that turn from hit to miss or back.

    Attributes:
        expectation: of their changes.
        hit: ``(R,)`` booleans before any move.
        row: ``(M,)`` the row that turns.
        entries: makes the same as score sets.
    """

    expectation: Expectation
    hit: Tensor
    row: Tensor
    entries: Callable[[], EntryMoves]

    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """Without score sets, where the metric is the share of hits."""
        if not isinstance(metric.fast_path, OfHits) or batch.context.keys() - {"sample_weight"}:
            return self.entries().values(metric, batch)
        weight = wide(batch.context.get("sample_weight", torch.ones_like(self.hit, dtype=torch.float32)))
        weight = weight / weight.sum()
        start = (weight * self.hit).sum()
        return start[None], start + torch.where(self.hit, -weight, weight)[self.row]

    def change(self, delta: Tensor) -> Tensor:
        """See :class:`Moves`."""
        return self.expectation(delta)


@dataclass(frozen=True, kw_only=True)
class CountMoves(EntryMoves):
    """Moves of positives past negatives in one list.

    Attributes:
        counts: makes ``(S + M, P)`` ascending numbers of negatives above each positive, where the moves start and after
            each.
        negatives: how many negatives there are.
    """

    counts: Callable[[], Tensor]
    negatives: int

    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """Without sorting, where the metric is a function of counts and all rows weigh the same."""
        path = metric.fast_path
        if not isinstance(path, OfCounts) or batch.scores.ndim > 1 or "sample_weight" in batch.context:
            return super().values(metric, batch)
        found = path.values(self.counts(), self.negatives, **metric.fixed)
        return found[: len(self.base)], found[len(self.base) :]


@dataclass(frozen=True, kw_only=True)
class WordMoves(Moves):
    """Moves of which each changes one token of one sentence.

    Attributes:
        expectation: of their changes.
        entries: makes the same as score sets, which are as long as the vocabulary.
        predicted: ``(N, T)`` tokens before any move; those below 0 match nothing.
        targets: ``(N, T)`` tokens, -1 for padding.
        row: ``(M,)`` the sentence that each move changes.
        position: ``(M,)`` where in it.
        token: ``(M,)`` what is predicted there after the move.
    """

    expectation: Expectation
    entries: Callable[[], EntryMoves]
    predicted: Tensor
    targets: Tensor
    row: Tensor
    position: Tensor
    token: Tensor

    def after(self) -> Tensor:
        """``(M, T)``: the sentence that each move changes, after the move."""
        return self.predicted[self.row].scatter(1, self.position[:, None], self.token[:, None])

    def values(self, metric: Metric, batch: Batch) -> tuple[Tensor, Tensor]:
        """By sums over sentences, of which only the one that a move changes is counted again."""
        path = metric.fast_path
        if not isinstance(path, OfSentences):
            return self.entries().values(metric, batch)
        own = path.counts(self.predicted, self.targets, **metric.fixed)
        total = own.sum(0)
        moved = path.counts(self.after(), self.targets[self.row], **metric.fixed)
        start = path.value(total, **metric.fixed)
        return start[None], path.value(total - own[self.row] + moved, **metric.fixed)

    def change(self, delta: Tensor) -> Tensor:
        """See :class:`Moves`."""
        return self.expectation(delta)
