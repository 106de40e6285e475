"""Score sets in which the items of ranked lists stand in a strict order, and what they become when one item moves.

A metric that reads the order alone is called on evenly spaced scores, whatever the size of the scores themselves: no
step is lost beside them, and none overflows. A foreign metric of probabilities of classes, whose columns hang together,
is called on the logits.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from metricgrad.metrics.decoding import log_odds
from metricgrad.precision import wide
from metricgrad.refactoring.ranking.lists import Lists

_NARROW = 2**17
"""Items up to which evenly spaced scores are distinct as float32 probabilities."""
_NUDGE = 1e-7


class ScoreSets(Protocol):
    """S score sets of M items.

    Attributes:
        ranks: ``(S, M)`` how many items of its list each item stands above, in each set.
        base: ``(S, *scores.shape)``.
    """

    ranks: Tensor
    base: Tensor

    def value_at(self, origin: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        """``(T,)`` scores that put, in each of the sets ``origin``, one item at a rank between two others'."""
        ...


def moved(sets: ScoreSets, origin: Tensor, item: Tensor, rank: Tensor) -> Tensor:
    """``(T, *scores.shape)``: the sets ``origin``, in each of them one item at a rank between two others'."""
    value = sets.value_at(origin, item, rank)
    out = sets.base.flatten(1)[origin].scatter(1, item[:, None], value[:, None])
    return out.reshape(-1, *sets.base.shape[1:])


class Ranks:
    """Evenly spaced scores, list by list, in (-4, 4)."""

    def __init__(self, lists: Lists, ranks: Tensor) -> None:
        self.ranks = ranks
        self._size = lists.sizes[lists.group]
        self._dtype = torch.float32 if len(self._size) < _NARROW else lists.values.dtype
        self.base = self._spaced(ranks, self._size).reshape(-1, *lists.shape)

    def value_at(self, origin: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        """See :class:`ScoreSets`."""
        return self._spaced(rank, self._size[item])

    def _spaced(self, ranks: Tensor, size: Tensor) -> Tensor:
        return (((wide(ranks) + 0.5) / size * 2 - 1) * 4).to(self._dtype)


class Logits:
    """The logits themselves in float64, ties broken by steps too small to matter otherwise."""

    def __init__(self, lists: Lists, scores: Tensor, ranks: Tensor, tied: bool) -> None:
        self._group = lists.group
        size = lists.sizes
        self._size, self._first = size, size.cumsum(0) - size
        flat = wide(scores.detach()).reshape(1, -1).expand(len(ranks), -1)
        if tied:
            flat = flat + _NUDGE * flat.abs().clamp(min=1) * ranks / size[lists.group]
        self.base = flat.reshape(-1, *lists.shape)
        self._odds = log_odds(self.base, elementwise=False).flatten(1)
        order = self._odds.argsort(1)
        order = order.gather(1, self._group[order].argsort(dim=1, stable=True))
        self._sorted = self._odds.gather(1, order)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).to(order).expand_as(order))
        self.ranks = rank - self._first[self._group]

    def value_at(self, origin: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        """See :class:`ScoreSets`."""
        first, last = self._first[self._group[item]], self._size[self._group[item]] - 1
        below = rank.floor().long()
        low = self._sorted[origin, first + below.clamp(min=0)]
        high = self._sorted[origin, first + torch.minimum(below + 1, last)]
        odds = torch.where(below >= last, low + _beyond(low), (low + high) / 2)
        odds = torch.where(below < 0, high - _beyond(high), odds)
        rest = self.base.flatten(1)[origin, item] - self._odds[origin, item]  # logsumexp over the row's other classes
        return odds + rest


def _beyond(x: Tensor) -> Tensor:
    return 1 + x.abs() * 1e-6
