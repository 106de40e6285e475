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
from typing import Any, ClassVar, Literal

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
        items_weigh: whether ``sample_weight`` is of items, and ``at`` of their weights what it is of their counts.
        by_support: whether each column counts in the mean over columns as what its positives weigh.
        needs_negatives: whether a list without any has no value.
        least: the place that a positive has which comes one sooner than the first.
    """

    least: ClassVar[int] = 1

    at: AtPlace
    ties: Ties
    by_gain: OfRanks | None = None
    by_place: bool = True
    missing: Missing = "skipped"
    items_weigh: bool = False
    by_support: bool = False
    needs_negatives: bool = False

    @property
    def orders_ties(self) -> bool:
        """Whether it is a convention which of equal scores comes first: others take the order of the data."""
        return self.ties == "negatives_first"

    @abc.abstractmethod
    def _total(self, found: Tensor, place: Tensor, positives: int) -> Tensor:
        """``(...)`` values of ``(..., P)`` values of ``at``."""

    @abc.abstractmethod
    def mean(self, found: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        """``(K,)`` means over lists of ``(K, L, P)`` values of ``at``.

        Args:
            found: finite, also where a list has fewer than P positives.
            place: ``(K, L, P)`` of each positive.
            weight: ``(L, P)`` what its list weighs in the mean, for each positive that this has; 0 where it has none.
        """

    @abc.abstractmethod
    def lost(self, near: Tensor, own: Tensor, place: tuple[Tensor, Tensor], before: Tensor) -> Tensor:
        """``(..., P)``: how much more all add with positive i alone at its second new place than at its first.

        Args:
            near: ``(3, ..., P)`` values of ``at`` where each stands one place sooner, where it does, and one later.
            own: ``(2, ..., P)`` those of positive i at the new places, the first of which is not above the second.
            place: of both.
            before: ``(2, ..., P)`` how many positives stand before it there, with itself where it falls.
        """

    def slopes(
        self,
        above: Tensor,
        reach: Tensor,
        positives: int,
        negatives: int,
        dtype: torch.dtype | None = None,
        **parameters: Any,
    ) -> Tensor:
        """``(P,)``: what a list's value loses by a negative that passes positive i alone, as a secant.

        Args:
            above: ``(P,)`` ascending float64 counts of negatives above each positive.
            reach: ``(P,)`` how many negatives the secant looks at on each side, above 0.
            positives: how many there are, more than none.
            negatives: likewise.
            dtype: of the slopes; by default that of the counts.
            parameters: the metric's own.
        """
        past = torch.addcmul(above, reach, listed((1.0, -1.0), above.dtype, above.device)[:, None])
        held, counts = past.clamp(0, negatives), (positives, negatives)
        if self.by_place:
            place = counted(positives + 2, above.dtype, above.device, least=self.least).unfold(0, positives, 1)
            near = self.at(place, above, *counts, **parameters)
            before = torch.searchsorted(above, past)
            to = destinations(before)
            lost = self.lost(near, self.at(to, held, *counts, **parameters), (place, to), before)
        else:
            lost = fallen(self.at(held, held, *counts, **parameters))
        most, least = held.unbind()
        return torch.div(lost / positives, most - least, out=torch.empty_like(least, dtype=dtype))

    def values(self, above: Tensor, negatives: int, **parameters: Any) -> Tensor:
        """``(T,)`` from ``(T, P)`` ascending counts of negatives above each positive."""
        place, positives = _places(above), above.shape[-1]
        return self._total(self.at(place, wide(above), positives, negatives, **parameters), place, positives)

    def of_scores(self, up: Tensor, down: Tensor, **parameters: Any) -> Tensor:
        """0-d: the metric itself, of ``(P,)`` positives and ``(N,)`` negatives, turned round and sorted."""
        positives, negatives = up.shape[0], down.shape[0]
        if self.ties == "mean_of_ranks":
            return self._total(self.shared(up, down, positives, negatives, **parameters), _places(up), positives)
        place, above = self._standing(up, down)
        return self._total(self.at(place, above, positives, negatives, **parameters), place, positives)

    def shared(self, up: Tensor, down: Tensor, positives: Count, negatives: Count, **parameters: Any) -> Tensor:
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

    def _total(self, found: Tensor, place: Tensor, positives: int) -> Tensor:
        return wide(found).mean(-1)

    def mean(self, found: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        """See :class:`OfCounts`."""
        return (wide(found) * weight).sum((1, 2))  # no product of matrices, see RankedLists.means

    def lost(self, near: Tensor, own: Tensor, place: tuple[Tensor, Tensor], before: Tensor) -> Tensor:
        """See :class:`OfCounts`."""
        # what the first 0, 1, ... P positives gain where each stands as it does, not one place sooner; and one later
        gained = near.new_zeros(*own.shape[:-1], own.shape[-1] + 1, dtype=own.dtype)
        torch.cumsum(near.diff(dim=0), -1, out=gained[..., 1:])
        # of positives that come sooner i is no part, and it is none of those that come later
        but_it = gained.as_strided(own.shape, (gained.stride(0) - 1, *gained.stride()[1:]), 1)
        more, fewer = (own - gained.gather(-1, before) + but_it).unbind()
        return fewer - more


class LargestPlace(OfCounts):
    """The largest place of a positive at which something holds, as a share of all.

    It holds the rather, the larger the place and the fewer negatives above.
    """

    least: ClassVar[int] = 0

    def _total(self, found: Tensor, place: Tensor, positives: int) -> Tensor:
        return (place * found).amax(-1) / positives

    def mean(self, found: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        """See :class:`OfCounts`."""
        return (place * found * weight).amax(-1).sum(-1)

    def lost(self, near: Tensor, own: Tensor, place: tuple[Tensor, Tensor], before: Tensor) -> Tensor:
        """See :class:`OfCounts`."""
        of_near, to = place
        # the largest place among the first k positives when each stands one place sooner, as they do, and one later
        upto = torch.nn.functional.pad((of_near * near).cummax(-1).values, (1, 0))
        # of those that a move bears upon, and would stand still, none is better than the best that it makes; beyond the
        # place that it comes to, the best of all still counts, and of those that it passes, which come one later
        beyond = torch.maximum(upto[1:, ..., :-1], upto[1:2, ..., -1:])
        found = torch.maximum(torch.where(beyond > to, beyond, to * own), upto[:2].gather(-1, before))
        more, fewer = found.unbind()
        return fewer - torch.maximum(more, upto[1, ..., :-1])


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


def destinations(before: Tensor, out: Tensor | None = None) -> Tensor:
    """``(2, ..., P)`` the places that a positive comes to have, which is among those before it as it falls."""
    falls = listed((0, 1), torch.long, before.device).view(2, *(1,) * (before.ndim - 1))
    return torch.add(before, falls, out=out)


def fallen(own: Tensor) -> Tensor:
    """``(..., P)``: how much more positive i adds at the second of two counts, where the place is no matter."""
    more, fewer = own.unbind()
    return fewer - more
