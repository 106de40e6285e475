"""A metric of counts in many ranked lists at once: its mean, and what each move of one positive is worth."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled, listed
from metricgrad.metrics.of_counts import OfCounts, destinations, fallen
from metricgrad.precision import wide_dtype

_NOW = {"halves": (0.5, 0.5)}
"""Of those before and those up to a positive, how much counts as above it; otherwise all up to it."""


class CountsOfLists:
    """The positives of L lists among the negatives, as they are, as all are at best, and as each could be moved.

    All these are places and counts, of which the metric is asked at once.

    Args:
        path: of the metric of one list.
        up: ``(L, P)`` depths of the positives, ascending; where a list has fewer the rest lies below all that it has.
        down: ``(L, N)`` likewise of negatives.
        positives: ``(L, 1)`` how many there are.
        negatives: likewise; of a metric that needs them at least 1.
        parameters: the metric's own.

    Attributes:
        there: ``(L, P)`` booleans, of a list's own positives.
        tied: ``(L, P)`` booleans, whether negatives tie with a positive.
    """

    def __init__(
        self,
        path: OfCounts,
        up: Tensor,
        down: Tensor,
        positives: Tensor,
        negatives: Tensor,
        parameters: dict[str, Any],
    ) -> None:
        self._path, self._parameters, self._numbers = path, parameters, (positives, negatives)
        self.there = counted(up.shape[1], torch.int64, up.device) < positives
        self._ends = [torch.searchsorted(down, up, right=right) for right in (False, True)]
        # places where equals share the last, and what each adds where they share the mean of their ranks
        self._last = torch.searchsorted(up, up, right=True) if path.ties == "together" else None
        shares = path.ties == "mean_of_ranks"
        self._shared = path.shared(up, down, *self._numbers, **parameters) if shares else None

    @property
    def tied(self) -> Tensor:
        """See the class."""
        return self._ends[0] != self._ends[1]

    def moved(self, some: slice, reach: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """``(2,)``: the mean as they are, and at their best; ``(l, P)`` what it loses by a negative that passes each,
        and how many stand above each, half of those that tie.

        Args:
            some: of the lists.
            reach: ``(l, P)`` how many negatives a secant looks at on each side, above 0.
            weight: ``(l, P)`` see :meth:`metricgrad.metrics.of_counts.OfCounts.mean`.
            dtype: of the slopes; where nothing can move, or is counted, they are 0.
        """
        path, wide, device = self._path, wide_dtype(reach.device), reach.device
        (before, level), there = (end[some] for end in self._ends), self.there[some]
        positives, negatives = (number[some] for number in self._numbers)
        # now, at best, and three times half of those that tie: one place sooner, as it is, and one later; and moved
        shares = _NOW.get(path.ties, (0.0, 1.0)), (0.0, 0.0), *[(0.5, 0.5)] * 3
        of_before, of_level = (listed(each, wide, device)[:, None, None] for each in zip(*shares, strict=True))
        counts = torch.empty(7, *reach.shape, dtype=wide, device=device)
        torch.addcmul(before * of_before, level, of_level, out=counts[:5])
        ascending = torch.where(there, counts[4], filled(torch.inf, 1, wide, device))
        past = torch.addcmul(ascending[:, None], reach[:, None], listed((1.0, -1.0), wide, device)[:, None])
        most, least = torch.clamp(past.transpose(0, 1), filled(0.0, 1, wide, device), negatives, out=counts[5:])
        if path.by_place:
            places = torch.empty_like(counts)
            places[:5] = _places(1 << reach.shape[1].bit_length(), path.least, wide, device)[:, None, : reach.shape[1]]
            if self._last is not None:
                places[0] = self._last[some]
            passed = torch.searchsorted(ascending, past.flatten(1)).view_as(past).transpose(0, 1)
            destinations(passed, out=places[5:])
            found = path.at(places, counts, positives, negatives, **self._parameters)
            near = found[2:5] if found.dtype != torch.bool else found[2:5] & there
            lost = path.lost(near, found[5:], (places[2:5], places[5:]), passed)
        else:
            places = counts  # which are all that matters
            found = path.at(places, counts, positives, negatives, **self._parameters)
            lost = fallen(found[5:])
        shown = found[:2] if self._shared is None else torch.stack([self._shared[some], found[1]])
        slopes = torch.div(lost * weight, most - least, out=torch.empty_like(reach, dtype=dtype))
        return path.mean(shown, places[:2], weight), slopes.nan_to_num_(0, 0, 0), counts[4]

    def worst(self, weight: Tensor) -> Tensor:
        """0-d: the mean where all negatives stand above all positives."""
        positives, negatives = self._numbers
        place = counted(1 + self.there.shape[1], weight.dtype, weight.device)[1:]
        found = self._path.at(place, negatives.to(weight).expand_as(weight), positives, negatives, **self._parameters)
        return self._path.mean(found[None], place, weight)[0]


@functools.lru_cache(maxsize=32)
def _places(count: int, least: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(5, count)`` places from 1: twice where each stands, one sooner, where it stands, and one later."""
    with torch.inference_mode(False):
        here = torch.arange(1, count + 1, dtype=dtype, device=device)
        return torch.stack([here, here, (here - 1).clamp(min=least), here, here + 1])
