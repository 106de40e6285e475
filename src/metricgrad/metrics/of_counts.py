"""Metrics of ranked lists as functions of where positives stand, and what each move of one positive is worth.

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

from metricgrad.functional.constants import counted, listed
from metricgrad.metrics.fast_paths import FastPath, Missing
from metricgrad.metrics.of_ranks import OfRanks
from metricgrad.precision import wide, wide_dtype

#: What a metric makes of a positive and of what has the same score: they share one threshold at their end, a negative
#: counts half, negatives come first, or all share the mean over their ranks (of what depends on the rank alone).
Ties = Literal["together", "halves", "negatives_first", "mean_of_ranks"]
#: ``(place, above, positives, negatives, **parameters)`` of a positive to what it adds, or whether something holds.
AtPlace = Callable[..., Tensor]
#: How many there are: of one list, or ``(..., 1)`` of each of many.
Count = int | Tensor


@dataclass(frozen=True)
class OfCounts(FastPath, abc.ABC):
    """Abstract: a metric of how many negatives stand above each positive in one list.

    Attributes:
        at: of :mod:`metricgrad.metrics.families.counts`; places from 1, and counts of negatives, which may be halves.
        ties: see :data:`Ties`.
        by_gain: what the metric is of graded targets, of which it is no function of counts; None where it takes none.
        by_place: whether ``at`` depends on the place, or on the count of negatives alone.
        missing: see :data:`metricgrad.metrics.fast_paths.Missing`.
    """

    at: AtPlace
    ties: Ties
    by_gain: OfRanks | None = None
    by_place: bool = True
    missing: Missing = "skipped"

    @property
    def orders_ties(self) -> bool:
        """Whether it is a convention which of equal scores comes first: others take the order of the data."""
        return self.ties == "negatives_first"

    @abc.abstractmethod
    def _total(self, found: Tensor, place: Tensor, positives: Count) -> Tensor:
        """``(...)`` values of ``(..., P)`` values of ``at``."""

    @abc.abstractmethod
    def changes(self, above: Tensor, moved: Tensor, positives: Count, negatives: Count, **parameters: Any) -> Tensor:
        """``(..., K, P)`` changes of a list's value when positive i alone comes to have ``moved[..., k, i]`` above it.

        Args:
            above: ``(..., P)`` ascending float64 counts of negatives above each positive before the move; infinite
                where a list has fewer than P, of which what is found means nothing.
            moved: ``(..., K, P)`` after it.
            positives: how many there are.
            negatives: likewise.
            parameters: the metric's own.
        """

    def values(self, above: Tensor, negatives: int, **parameters: Any) -> Tensor:
        """``(T,)`` from ``(T, P)`` ascending counts of negatives above each positive."""
        place, positives = _places(above), above.shape[-1]
        return self._total(self.at(place, wide(above), positives, negatives, **parameters), place, positives)

    def of_scores(self, up: Tensor, down: Tensor, **parameters: Any) -> Tensor:
        """0-d: the metric itself, of ``(P,)`` positives and ``(N,)`` negatives, turned round and sorted."""
        positives, negatives = up.shape[0], down.shape[0]
        if self.ties == "mean_of_ranks":
            return self._total(self._shared(up, down, positives, negatives, **parameters), _places(up), positives)
        place, above = self._standing(up, down)
        return self._total(self.at(place, above, positives, negatives, **parameters), place, positives)

    def of_lists(self, up: Tensor, down: Tensor, positives: Tensor, negatives: Tensor, **parameters: Any) -> Tensor:
        """``(3, L)``: of many lists at once, as they are, at their best and at their worst; NaN where one has no value.

        Args:
            up: ``(L, P)``, infinite where a list has fewer positives.
            down: ``(L, N)``, likewise of negatives.
            positives: ``(L, 1)`` how many there are.
            negatives: likewise.
            parameters: the metric's own.
        """
        place, above = self._standing(up, down)
        if self.ties == "together":  # at their best and worst none tie
            place = torch.stack([place, *[_places(up).expand_as(place)] * 2])
        now, worst = (listed(of, above.dtype, above.device)[:, None, None] for of in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
        above = torch.addcmul(negatives * worst, above, now)
        found = self.at(place, above, positives, negatives, **parameters)
        if self.ties == "mean_of_ranks":
            found = torch.cat([self._shared(up, down, positives, negatives, **parameters)[None], found[1:]])
        return self._total(found * (up < torch.inf), place, positives)

    def _shared(self, up: Tensor, down: Tensor, positives: Count, negatives: Count, **parameters: Any) -> Tensor:
        """What each positive adds where all of equal score share the mean over their ranks."""
        first, last = (
            torch.searchsorted(down, up, right=right) + torch.searchsorted(up, up, right=right)
            for right in (False, True)
        )
        rank = _places(up, more=down.shape[-1])
        upto = self.at(rank, torch.zeros_like(rank), positives, negatives, **parameters).cumsum(-1)
        upto = torch.nn.functional.pad(upto, (1, 0))
        return (upto.gather(-1, last) - upto.gather(-1, first)) / (last - first)

    def _standing(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., P)`` place of each positive, and how many negatives stand above it."""
        above = wide(torch.searchsorted(down, up, right=True))
        if self.ties == "halves":
            above = (above + torch.searchsorted(down, up)) * 0.5
        return wide(torch.searchsorted(up, up, right=True)) if self.ties == "together" else _places(up), above

    def ideal(self, positives: int, negatives: int, **parameters: Any) -> float:
        """The value where no negative stands above a positive."""
        return _ideal(self, positives, negatives, tuple(parameters.items()))

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """One count for each positive, of one list."""
        return (int(targets.sum()) if scores.ndim == 1 and self.by_gain is None else 0) or whole

    def takes(self, context: Collection[str]) -> bool:
        """None: it is of one list whose items weigh the same."""
        return not context


class MeanOverPositives(OfCounts):
    """The mean of what each positive adds, which depends on its own place and count alone."""

    def _total(self, found: Tensor, place: Tensor, positives: Count) -> Tensor:
        found = wide(found)
        return found.sum(-1) / positives.squeeze(-1) if isinstance(positives, Tensor) else found.mean(-1)

    def changes(self, above: Tensor, moved: Tensor, positives: Count, negatives: Count, **parameters: Any) -> Tensor:
        """See :class:`OfCounts`."""
        flat = moved.flatten(-2)
        if not self.by_place:
            before, after = (self.at(counts, counts, positives, negatives, **parameters) for counts in (above, flat))
            return (after.view_as(moved) - before.unsqueeze(-2)) / _of_each(positives)
        place = _by_one(above, least=1)  # there is no place before the first
        added = self.at(place, above.unsqueeze(-2), _of_each(positives), _of_each(negatives), **parameters)
        added = wide(added).expand(*above.shape[:-1], 3, -1)
        still = added[..., 1:2, :]
        # of the first k positives, what they gain when each stands one place sooner, and one place later
        gains = added.new_zeros(*added.shape[:-1], added.shape[-1] + 2)
        torch.cumsum(added - still, -1, out=gains[..., 2:])
        sooner, later = gains[..., 0, 1:], gains[..., 2, :]
        rises, to = _destination(above, flat, place[1])
        passed = torch.where(
            rises,
            later[..., None, 1:-1] - later.gather(-1, to).view_as(moved),
            sooner.gather(-1, to).view_as(moved) - sooner[..., None, 1:],
        )
        own = self.at(to, flat, positives, negatives, **parameters).view_as(moved)
        return (passed + own - still) / _of_each(positives)


class LargestPlace(OfCounts):
    """The largest place of a positive at which something holds, as a share of all."""

    def _total(self, found: Tensor, place: Tensor, positives: Count) -> Tensor:
        most = (place * found).amax(-1)
        return most / (positives.squeeze(-1) if isinstance(positives, Tensor) else positives)

    def changes(self, above: Tensor, moved: Tensor, positives: Count, negatives: Count, **parameters: Any) -> Tensor:
        """See :class:`OfCounts`."""
        flat, place = moved.flatten(-2), _by_one(above)
        holds = self.at(place, above.unsqueeze(-2), _of_each(positives), _of_each(negatives), **parameters)
        if isinstance(positives, Tensor):
            holds &= (above < torch.inf).unsqueeze(-2)
        # the largest place among the first k positives when each stands one place sooner, as they do, and one later
        upto = torch.nn.functional.pad((place * holds).cummax(-1).values, (1, 0))
        sooner, still, later = upto.unbind(-2)
        rises, to = _destination(above, flat, place[1])
        own, to_each, most = place[1], to.view_as(moved), still[..., None, -1:]
        passed = torch.where(rises, later[..., None, :-1], sooner.gather(-1, to).view_as(moved))
        best = torch.stack(
            [
                torch.minimum(still[..., None, :-1], still.gather(-1, to - 1).view_as(moved)),
                passed * (passed >= torch.where(rises, to_each + 1, own)),
                to_each * self.at(to, flat, positives, negatives, **parameters).view_as(moved),
                most * (most > torch.maximum(own, to_each)),
            ]
        ).amax(0)
        return (best - most) / _of_each(positives)


@dataclass(frozen=True)
class OfNeighbours(FastPath):
    """A mean over rows of embeddings, each of which has its own list of the others.

    Attributes:
        path: of such a list, by similarity; its positives are the row's class.
    """

    path: OfCounts


@functools.lru_cache(1024)
def _ideal(path: OfCounts, positives: int, negatives: int, parameters: tuple[tuple[str, Any], ...]) -> float:
    return float(path.values(torch.zeros(1, positives), negatives, **dict(parameters)))


def _places(like: Tensor, more: int = 0) -> Tensor:
    """Counted from 1: one for each, and some more."""
    return counted(1 + like.shape[-1] + more, wide_dtype(like.device), like.device)[1:]


def _of_each(count: Count) -> Count:
    """One axis more, for what has one more than the lists' items."""
    return count.unsqueeze(-1) if isinstance(count, Tensor) else count


def _by_one(above: Tensor, least: int = 0) -> Tensor:
    """``(3, P)`` places: one sooner, but not below ``least``, where each stands, and one later."""
    count = above.shape[-1]
    return counted(count + 2, wide_dtype(above.device), above.device, least=least).unfold(0, count, 1)


def _destination(above: Tensor, moved: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each rises or stays, ``(..., K, P)``, and the place it comes to have, ``(..., K P)`` as ``moved``."""
    others = torch.searchsorted(above, moved)  # before it, and itself where it falls
    rises = others.unflatten(-1, (-1, place.shape[-1])) < place
    return rises, others + rises.flatten(-2)
