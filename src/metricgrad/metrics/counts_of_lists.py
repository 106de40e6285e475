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
        above: ``(L, P)`` negatives above each positive, half of those that tie with it.
        tied: ``(L, P)`` booleans, whether any do.
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
        dtype, device, (lists, most) = wide_dtype(up.device), up.device, up.shape
        self.there = counted(most, torch.int64, device) < positives
        self._ends = before, level = [torch.searchsorted(down, up, right=right) for right in (False, True)]
        # now, at best, and three times half of those that tie: one place sooner, as it is, and one later
        shares = _NOW.get(path.ties, (0.0, 1.0)), (0.0, 0.0), *[(0.5, 0.5)] * 3
        of_before, of_level = (listed(each, dtype, device)[:, None, None] for each in zip(*shares, strict=True))
        self._counts = torch.empty(7, lists, most, dtype=dtype, device=device)
        torch.addcmul(before * of_before, level, of_level, out=self._counts[:5])
        self._places = self._counts
        if path.by_place:
            self._places = torch.empty_like(self._counts)
            self._places[:5] = _places(1 << most.bit_length(), path.least, dtype, device)[:, None, :most]
            if path.ties == "together":
                self._places[0] = torch.searchsorted(up, up, right=True)
        self._shared = None
        if path.ties == "mean_of_ranks":
            self._shared = path.shared(up, down, *self._numbers, **parameters)
        self.above = self._counts[4]
        self._ascending = torch.where(self.there, self.above, filled(torch.inf, 1, dtype, device))

    @property
    def tied(self) -> Tensor:
        """See the class."""
        return self._ends[0] != self._ends[1]

    def moved(self, some: slice, reach: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``(2,)``: the mean as they are, and at their best; ``(l, P)`` what it loses by a negative that passes each.

        Args:
            some: of the lists.
            reach: ``(l, P)`` how many negatives a secant looks at on each side, above 0.
            weight: ``(l, P)`` see :meth:`metricgrad.metrics.of_counts.OfCounts.mean`.
            dtype: of the slopes; where nothing can move, or is counted, they are 0.
        """
        path, above = self._path, self._ascending[some]
        counts, places = self._counts[:, some], self._places[:, some]
        positives, negatives = (number[some] for number in self._numbers)
        past = torch.addcmul(above[:, None], reach[:, None], listed((1.0, -1.0), above.dtype, above.device)[:, None])
        nothing = filled(0.0, 1, above.dtype, above.device)
        most, least = torch.clamp(past.transpose(0, 1), nothing, negatives, out=counts[5:])
        if path.by_place:
            before = torch.searchsorted(above, past.flatten(1)).view_as(past).transpose(0, 1)
            destinations(before, out=places[5:])
        found = path.at(places, counts, positives, negatives, **self._parameters)
        if path.by_place:
            near = found[2:5] if found.dtype != torch.bool else found[2:5] & self.there[some]
            lost = path.lost(near, found[5:], (places[2:5], places[5:]), before)
        else:
            lost = fallen(found[5:])
        shown = found[:2] if self._shared is None else torch.stack([self._shared[some], found[1]])
        slopes = torch.div(lost * weight, most - least, out=torch.empty_like(reach, dtype=dtype))
        return path.mean(shown, places[:2], weight), slopes.nan_to_num_(0, 0, 0)

    def worst(self, weight: Tensor) -> Tensor:
        """0-d: the mean where all negatives stand above all positives."""
        counts = self._numbers[1].to(self.above.dtype).expand_as(self.above)
        found = self._path.at(self._places[1], counts, *self._numbers, **self._parameters)
        return self._path.mean(found[None], self._places[1:2], weight)[0]


@functools.lru_cache(maxsize=32)
def _places(count: int, least: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(5, count)`` places from 1: twice where each stands, one sooner, where it stands, and one later."""
    with torch.inference_mode(False):
        here = torch.arange(1, count + 1, dtype=dtype, device=device)
        return torch.stack([here, here, (here - 1).clamp(min=least), here, here + 1])
