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

from metricgrad.functional.constants import counted, filled, listed
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
        items_weigh: whether ``sample_weight`` is of items, and ``at`` of their weights what it is of their counts.
        by_support: whether each column counts in the mean over columns as what its positives weigh.
    """

    at: AtPlace
    ties: Ties
    by_gain: OfRanks | None = None
    by_place: bool = True
    missing: Missing = "skipped"
    items_weigh: bool = False
    by_support: bool = False

    @property
    def orders_ties(self) -> bool:
        """Whether it is a convention which of equal scores comes first: others take the order of the data."""
        return self.ties == "negatives_first"

    @abc.abstractmethod
    def _total(self, found: Tensor, place: Tensor, positives: Count) -> Tensor:
        """``(...)`` values of ``(..., P)`` values of ``at``."""

    @abc.abstractmethod
    def _lost(self, above: Tensor, past: Tensor, held: Tensor, positives: Count, negatives: Count, **of: Any) -> Tensor:
        """``(..., P)``: how much better a list is with positive i alone at ``held[..., 1, i]`` than at ``[..., 0, i]``.

        Args:
            above: as in :meth:`slopes`, as all else.
            past: ``(..., 2, P)`` counts above and below those of ``above``, by which positive i passes others.
            held: the same, of as many negatives as there are.
            positives: how many there are.
            negatives: likewise.
            of: the metric's own parameters.
        """

    def slopes(
        self,
        above: Tensor,
        reach: Tensor,
        positives: Count,
        negatives: Count,
        dtype: torch.dtype | None = None,
        **parameters: Any,
    ) -> Tensor:
        """``(..., P)``: what a list's value loses by a negative that passes positive i alone, as a secant.

        Args:
            above: ``(..., P)`` ascending float64 counts of negatives above each positive; infinite where a list has
                fewer than P.
            reach: ``(..., P)`` how many negatives the secant looks at on each side, above 0.
            positives: how many there are.
            negatives: likewise.
            dtype: of the slopes; by default that of the counts.
            parameters: the metric's own.

        Of a list without negatives, or of a place that has no positive, nothing can move: infinite or NaN.
        """
        both_ways = listed((1.0, -1.0), above.dtype, above.device)[:, None]
        past = torch.addcmul(above.unsqueeze(-2), reach.unsqueeze(-2), both_ways)
        held = _held(past, _of_each(negatives))
        lost = self._lost(above, past, held, positives, negatives, **parameters)
        most, least = held.unbind(-2)
        return torch.div(lost, most - least, out=torch.empty_like(least, dtype=dtype))

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

    def of_lists(
        self,
        up: Tensor,
        down: Tensor,
        above: tuple[Tensor, Tensor],
        there: Tensor,
        positives: Tensor,
        negatives: Tensor,
        **parameters: Any,
    ) -> Tensor:
        """``(2, L)``: of many lists at once, as they are and at their best; NaN where one has no value.

        Args:
            up: ``(L, P)``, where a list has fewer positives the rest below all that it has.
            down: ``(L, N)``, likewise of negatives.
            above: ``(2, L, P)`` negatives above each positive, half of those that tie among them, and none; ``(L, P)``
                those above each positive as it is, all of those that tie among them.
            there: ``(L, P)`` booleans, of a list's own positives.
            positives: ``(L, 1)`` how many there are.
            negatives: likewise.
            parameters: the metric's own.
        """
        now = listed((1.0, 0.0), wide_dtype(up.device), up.device)[:, None, None]
        place = _places(up)
        if self.ties == "together":  # at their best none tie
            place = torch.maximum(torch.searchsorted(up, up, right=True) * now, place)
        counts = above[0] if self.ties == "halves" else above[1] * now
        found = self.at(place, counts, positives, negatives, **parameters)
        if self.ties == "mean_of_ranks":
            found = torch.stack([self._shared(up, down, positives, negatives, **parameters), found[1]])
        return self._total(found * there, place, positives)

    def worst_of_lists(self, there: Tensor, positives: Tensor, negatives: Tensor, **parameters: Any) -> Tensor:
        """``(L,)``: of many lists where all negatives stand above all positives; see :meth:`of_lists`."""
        place = _places(there)
        found = self.at(place, wide(negatives), positives, negatives, **parameters)
        return self._total(found * there, place, positives)

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
        above = torch.searchsorted(down, up, right=True)
        if self.ties == "halves":
            above = (above + torch.searchsorted(down, up)) * listed((0.5,), wide_dtype(up.device), up.device)[0]
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

    def _lost(self, above: Tensor, past: Tensor, held: Tensor, positives: Count, negatives: Count, **of: Any) -> Tensor:
        """See :class:`OfCounts`."""
        if not self.by_place:
            fewer, more = self.at(held, held, _of_each(positives), _of_each(negatives), **of).unbind(-2)[::-1]
            return (fewer - more) / positives
        place, count = _by_one(above, least=1), above.shape[-1]  # there is no place before the first
        added = wide(self.at(place, above.unsqueeze(-2), _of_each(positives), _of_each(negatives), **of))
        # what the first 0, 1, ... P positives gain where each stands as it does, not one place sooner; and one later
        gained = added.new_zeros(*above.shape[:-1], 2, count + 1)
        torch.cumsum(added.diff(dim=-2), -1, out=gained[..., 1:])
        before = torch.searchsorted(above, past.flatten(-2)).view_as(past)
        own = self.at(_destination(before), held, _of_each(positives), _of_each(negatives), **of)
        # of positives that come sooner i is no part, and it is none of those that come later
        but_it = gained.flatten(-2)[..., 1:-1].unflatten(-1, (2, count))
        more, fewer = (own - gained.gather(-1, before) + but_it).unbind(-2)
        return (fewer - more) / positives


class LargestPlace(OfCounts):
    """The largest place of a positive at which something holds, as a share of all.

    It holds the rather, the larger the place and the fewer negatives above.
    """

    def _total(self, found: Tensor, place: Tensor, positives: Count) -> Tensor:
        most = (place * found).amax(-1)
        return most / (positives.squeeze(-1) if isinstance(positives, Tensor) else positives)

    def _lost(self, above: Tensor, past: Tensor, held: Tensor, positives: Count, negatives: Count, **of: Any) -> Tensor:
        """See :class:`OfCounts`."""
        place = _by_one(above)
        holds = self.at(place, above.unsqueeze(-2), _of_each(positives), _of_each(negatives), **of)
        if isinstance(positives, Tensor):
            holds &= (above < torch.inf).unsqueeze(-2)
        # the largest place among the first k positives when each stands one place sooner, as they do, and one later
        upto = torch.nn.functional.pad((place * holds).cummax(-1).values, (1, 0))
        before = torch.searchsorted(above, past.flatten(-2)).view_as(past)
        to = _destination(before)
        own = to * self.at(to, held, _of_each(positives), _of_each(negatives), **of)
        # of those that a move bears upon, and would stand still, none is better than the best that it makes; beyond the
        # place that it comes to, the best of all still counts, and of those that it passes, which come one later
        beyond = torch.maximum(upto[..., 1:, :-1], upto[..., 1:2, -1:])
        found = torch.maximum(torch.where(beyond > to, beyond, own), upto[..., :2, :].gather(-1, before))
        more, fewer = found.unbind(-2)
        return (fewer - torch.maximum(more, upto[..., 1, :-1])) / positives


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


def _destination(before: Tensor) -> Tensor:
    """``(..., 2, P)`` the place that a positive comes to have, which is among those before it as it falls."""
    return before + listed((0, 1), torch.long, before.device)[:, None]


def _held(counts: Tensor, most: Count) -> Tensor:
    """Between 0 and so many."""
    if isinstance(most, Tensor):
        return torch.clamp(counts, filled(0.0, 1, counts.dtype, counts.device), most)
    return counts.clamp(0, most)
