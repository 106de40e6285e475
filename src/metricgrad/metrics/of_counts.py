"""Metrics of one ranked list as functions of where its positives stand, and what each move of one positive is worth.

With the P positives in descending order and :math:`a_1 \\le \\dots \\le a_P` negatives above them, positive i has
place i and rank :math:`i + a_i`, and that is all such a metric reads. When one positive moves, those it passes move by
one place, so sums and maxima over runs of the others, cumulated once, value all P moves in O(P log P).
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from metricgrad.functional.constants import counted
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.precision import wide, wide_dtype

#: What a metric makes of a positive and of what has the same score: they share one threshold at their end, a negative
#: counts half, negatives come first, or all share the mean over their ranks (of what depends on the rank alone).
Ties = Literal["together", "halves", "negatives_first", "mean_of_ranks"]
#: ``(place, above, positives, negatives, **parameters)`` of a positive to what it adds, or whether something holds.
AtPlace = Callable[..., Tensor]


@dataclass(frozen=True)
class OfCounts(FastPath, abc.ABC):
    """Abstract: a metric of how many negatives stand above each positive in one list.

    Attributes:
        at: of :mod:`metricgrad.metrics.families.counts`; places from 1, and counts of negatives, which may be halves.
        ties: see :data:`Ties`.
        graded: whether the metric takes graded targets, and is a function of counts only where they are 0 and 1.
        by_place: whether ``at`` depends on the place, or on the count of negatives alone.
    """

    at: AtPlace
    ties: Ties
    graded: bool = False
    by_place: bool = True

    @abc.abstractmethod
    def _total(self, found: Tensor, place: Tensor) -> Tensor:
        """``(T,)`` values of ``(T, P)`` values of ``at``."""

    @abc.abstractmethod
    def changes(self, above: Tensor, moved: Tensor, negatives: int, **parameters: Any) -> Tensor:
        """``(K, P)`` changes of the value when positive i alone comes to have ``moved[k, i]`` negatives above it.

        Args:
            above: ``(P,)`` ascending float64 counts before the move.
            moved: ``(K, P)`` after it.
            negatives: how many there are.
            parameters: the metric's own.
        """

    def values(self, above: Tensor, negatives: int, **parameters: Any) -> Tensor:
        """``(T,)`` from ``(T, P)`` ascending counts of negatives above each positive."""
        place = _places(above)
        return self._total(self.at(place, wide(above), above.shape[-1], negatives, **parameters), place)

    def of_scores(self, up: Tensor, down: Tensor, **parameters: Any) -> Tensor:
        """0-d: the metric itself, of ``(P,)`` positives and ``(N,)`` negatives, turned round and sorted."""
        positives, negatives = up.shape[0], down.shape[0]
        if self.ties == "mean_of_ranks":
            first, last = (
                torch.searchsorted(down, up, right=right) + torch.searchsorted(up, up, right=right)
                for right in (False, True)
            )
            rank = _places(up, more=negatives)
            upto = self.at(rank, torch.zeros_like(rank), positives, negatives, **parameters).cumsum(0)
            upto = torch.nn.functional.pad(upto, (1, 0))
            return self._total((upto[last] - upto[first]) / (last - first), _places(up))
        above = wide(torch.searchsorted(down, up, right=True))
        if self.ties == "halves":
            above = (above + torch.searchsorted(down, up)) * 0.5
        place = wide(torch.searchsorted(up, up, right=True)) if self.ties == "together" else _places(up)
        return self._total(self.at(place, above, positives, negatives, **parameters), place)

    def ideal(self, positives: int, negatives: int, **parameters: Any) -> float:
        """The value where no negative stands above a positive."""
        return _ideal(self, positives, negatives, tuple(parameters.items()))

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """One count for each positive, of one list."""
        return (int(targets.sum()) if scores.ndim == 1 and not self.graded else 0) or whole

    def takes(self, context: Collection[str]) -> bool:
        """None: it is of one list whose items weigh the same."""
        return not context


class MeanOverPositives(OfCounts):
    """The mean of what each positive adds, which depends on its own place and count alone."""

    def _total(self, found: Tensor, place: Tensor) -> Tensor:
        return wide(found).mean(-1)

    def changes(self, above: Tensor, moved: Tensor, negatives: int, **parameters: Any) -> Tensor:
        """See :class:`OfCounts`."""
        if not self.by_place:
            before, after = (self.at(counts, counts, len(above), negatives, **parameters) for counts in (above, moved))
            return (after - before) / float(len(above))
        count, place = above.shape[0], _by_one(above, least=1)  # there is no place before the first
        added = wide(self.at(place, above, count, negatives, **parameters)).expand(3, -1)
        # of the first k positives, what they gain when each stands one place sooner, and one place later
        gains = added.new_zeros(3, count + 2)
        torch.cumsum(added - added[1], 1, out=gains[:, 2:])
        sooner, later = gains[0, 1:], gains[2]
        rises, to = _destination(above, moved, place[1])
        passed = torch.where(rises, later[1:-1] - later.take(to), sooner.take(to) - sooner[1:])
        return (passed + self.at(to, moved, count, negatives, **parameters) - added[1]) / float(count)


class LargestPlace(OfCounts):
    """The largest place of a positive at which something holds, as a share of all."""

    def _total(self, found: Tensor, place: Tensor) -> Tensor:
        return (place * found).amax(-1) / found.shape[-1]

    def changes(self, above: Tensor, moved: Tensor, negatives: int, **parameters: Any) -> Tensor:
        """See :class:`OfCounts`."""
        count, place = len(above), _by_one(above)
        holds = self.at(place, above, count, negatives, **parameters)
        # the largest place among the first k positives when each stands one place sooner, as they do, and one later
        sooner, still, later = torch.nn.functional.pad((place * holds).cummax(1).values, (1, 0))
        rises, to = _destination(above, moved, place[1])
        passed = torch.where(rises, later[:-1], sooner.take(to))
        best = torch.stack(
            [
                torch.minimum(still[:-1], still[to - 1]),
                passed * (passed >= torch.where(rises, to + 1, place[1])),
                to * self.at(to, moved, count, negatives, **parameters),
                still[-1] * (still[-1] > torch.maximum(place[1], to)),
            ]
        ).amax(0)
        return (best - still[-1]) / count


@functools.lru_cache(1024)
def _ideal(path: OfCounts, positives: int, negatives: int, parameters: tuple[tuple[str, Any], ...]) -> float:
    return float(path.values(torch.zeros(1, positives), negatives, **dict(parameters)))


def _places(like: Tensor, more: int = 0) -> Tensor:
    """Counted from 1: one for each, and some more."""
    return counted(1 + like.shape[-1] + more, wide_dtype(like.device), like.device)[1:]


def _by_one(above: Tensor, least: int = 0) -> Tensor:
    """``(3, P)`` places: one sooner, but not below ``least``, where each stands, and one later."""
    count = above.shape[0]
    return counted(count + 2, wide_dtype(above.device), above.device, least=least).unfold(0, count, 1)


def _destination(above: Tensor, moved: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """``(K, P)`` whether each rises or stays, and the place that it comes to have."""
    others = torch.searchsorted(above, moved)  # before it, and itself where it falls
    rises = others < place
    return rises, others + rises
