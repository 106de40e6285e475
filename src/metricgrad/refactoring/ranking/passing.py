"""Items of ranked lists that pass their neighbours: local moves of an order, and what they are expected to change.

Let item i stand above :math:`c_i` of the items it is compared with, and let
:math:`\\tilde c_i = \\sum_j (1 - k((t_j - s_i) / \\tau))` be its soft count, with
:math:`k(z) = q \\, \\sigma(z) + (1 - q) \\, \\mathrm{softplus}(z)`: at q = 1 the soft count of the paper (Eq. 9),
below it a gradient that does not vanish on pairs that are badly wrong. The interpolated metric is
:math:`g + \\sum_i \\Delta_i (\\tilde c_i - c_i)`, where the slope :math:`\\Delta_i` is a secant of the metric
itself: it is called on the order with item i moved up, and down, past as many neighbours as lie within the softness.

A secant as wide as the softness sees the steps of a metric (the k-th place, the next positive) as far away as a soft
count does; the difference of two neighbouring places would be 0 nearly everywhere for a metric of the first k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.kernels import Kernel
from metricgrad.functional.leak import LEAK
from metricgrad.refactoring.moves import MoveRequest
from metricgrad.refactoring.ranking.lists import Lists
from metricgrad.refactoring.ranking.score_sets import ScoreSets, moved
from metricgrad.refactoring.ranking.soft_ranks import (
    Sampled,
    local_density,
    rank_above,
    sampled,
    soft_counts,
    standing,
    surely_above,
)
from metricgrad.refactoring.ranking.tie_orders import Orders
from metricgrad.refactoring.strata import first_of_each

_LARGEST = 1e150


@dataclass(frozen=True)
class Sides:
    """What a ranking compares.

    Attributes:
        lists: all items.
        movers: ``(K,)`` the items that move.
        against: ``(A,)`` the items they are compared with; the same tensor where all items are on both sides.
        halves: 1, or one half where each pair is on both sides and would count twice.
        swap: whether lists of equal length may be swapped.
    """

    lists: Lists
    movers: Tensor
    against: Tensor
    halves: float
    swap: bool

    @property
    def itself(self) -> bool:
        """Whether an item is among those it is compared with."""
        return self.movers is self.against


@dataclass(frozen=True)
class _FromOrder:
    """The moves from one strict order.

    Attributes:
        gap: ``(K,)`` soft minus hard count of each mover.
        below: ``(K,)`` hard counts.
        size: ``(K,)`` how many others there are.
        target: ``(2 S,)`` hard counts of the S movers that are tried, after their moves up and after those down.
        rank: ``(2 S,)`` where they then stand, between two items.
        tried: which movers those are, and how the others' slopes follow.
    """

    gap: Tensor
    below: Tensor
    size: Tensor
    target: Tensor
    rank: Tensor
    tried: Sampled

    def change(self, delta: Tensor) -> Tensor:
        """0-d: the sum over movers of slope times gap."""
        rise, fall = delta.chunk(2)
        up, down = self.target.chunk(2)
        slope = (rise - fall) / (up - down).clamp(min=1)
        return (self.tried.spread_out(slope) * self.gap).sum()

    def above(self) -> Tensor:
        """``(1 + 2 S, K)`` numbers of others above each mover, before any move and after each."""
        mover, counts = self.tried.index.repeat(2), self.size - self.below
        which = torch.cat([mover[:1], mover])
        value = torch.cat([counts[mover[:1]], self.size[mover] - self.target])
        return counts.expand(len(which), -1).scatter(1, which[:, None], value[:, None])


@dataclass(frozen=True)
class Passing:
    """M moves of single items, from each of the strict orders.

    Attributes:
        sides: what is compared.
        sets: score sets of the orders.
        parts: the moves from each.
        origin: ``(M,)`` from which order each move starts.
        item: ``(M,)`` the item that moves.
        rank: ``(M,)`` where it then stands.
    """

    sides: Sides
    sets: ScoreSets
    parts: list[_FromOrder]
    origin: Tensor
    item: Tensor
    rank: Tensor

    def stack(self) -> Tensor:
        """``(M, *scores.shape)`` score sets."""
        return moved(self.sets, self.origin, self.item, self.rank)

    def change(self, delta: Tensor) -> Tensor:
        """``(S,)`` expected change from each order, of ``(M,)`` changes of the metric."""
        parts = delta.to(self.parts[0].gap).split([len(part.rank) for part in self.parts])
        expected = [part.change(own) for part, own in zip(self.parts, parts, strict=True)]
        return self.sides.halves * torch.stack(expected)

    def counts(self) -> Tensor:
        """``(S + M, K)`` ascending numbers of others above each mover; of one list."""
        above = [part.above() for part in self.parts]
        return torch.cat([of[:1] for of in above] + [of[1:] for of in above]).sort(1).values


def passing(sides: Sides, orders: Orders, sets: ScoreSets, reach: float, request: MoveRequest) -> Passing:
    """The moves from every strict order, as many as the budget allows.

    Args:
        sides: what is compared; neither side is empty.
        orders: that break the ties of the lists.
        sets: the orders as scores.
        reach: the width of the secants, in units of the local density; 0 passes one neighbour only.
        request: its softness, tail exponent, budget and generator are read.
    """
    values = _in_softness(orders.shared(sides.lists.values), request.softness)
    if sides.lists.count > 1 and request.scores.dtype == torch.float32:
        values = values.float()  # short lists are summed pair by pair, and twice as fast
    above = _soft_above(values, sides, request.q)
    density = local_density(values.detach(), sides.lists, sides.movers, sides.against)
    width = (reach * density).round().clamp(min=1).long()
    each = max(1, (request.budget + 1) // len(sets.ranks) - 1)
    parts = [_from_order(ranks, sides, above, width, each, request.generator) for ranks in sets.ranks]
    return Passing(
        sides,
        sets,
        parts,
        origin=torch.cat([torch.full_like(part.target, number) for number, part in enumerate(parts)]),
        item=torch.cat([sides.movers[part.tried.index.repeat(2)] for part in parts]),
        rank=torch.cat([part.rank for part in parts]),
    )


def _soft_above(values: Tensor, sides: Sides, q: float) -> Tensor:
    """``(K,)`` soft number of others above each mover: the sum of k over them."""
    lists, movers, against = sides.lists, sides.movers, sides.against
    kernel = Kernel((0.0, q), slope=1 - q)
    above = soft_counts(-values, lists, movers, against, kernel)
    if kernel.slope < LEAK:  # without a slope of its own on pairs that are surely wrong
        above = above + surely_above(values, lists, movers, against)
    return above - kernel(above.new_zeros(())) if sides.itself else above  # an item is not above itself


def _in_softness(values: Tensor, softness: Tensor) -> Tensor:
    """Divided by the softness; what is too large to be summed then counts as 1e150, with its gradient."""
    limit = _LARGEST * softness.detach()
    clipped = values.detach().clamp(-limit, limit)
    return torch.where(clipped == values, values, clipped + (values - values.detach())) / softness


def _from_order(
    ranks: Tensor, sides: Sides, above: Tensor, width: Tensor, budget: int, generator: torch.Generator
) -> _FromOrder:
    """The moves from one strict order: past ``width`` others, up and down, or to the end of the list."""
    at = standing(ranks, sides.lists, sides.movers, sides.against)
    gap = at.size - above - at.below
    up, down = (at.below + width).clamp(max=at.size), (at.below - width).clamp(min=0)
    key, first, order = _strata(sides, ranks, at.below, at.size)
    tried = sampled(key, first, order, gap.detach().abs(), max(1, budget // 2), generator)
    target, twice = torch.cat([up[tried.index], down[tried.index]]), tried.index.repeat(2)
    # the sorted others of a mover among its own kind hold the mover as well
    passed = target + (target > at.below[twice]).long() if sides.itself else target
    return _FromOrder(gap, at.below, at.size, target, rank_above(at.others, at.start[twice], passed), tried)


def _strata(sides: Sides, ranks: Tensor, below: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Key of each mover, one representative of each key, and the order of movers where there is one list.

    Of many lists with one mover each, as of queries with one answer, those of equal length whose movers stand equally
    high are worth the same to an average over lists, so one of them moves for all.
    """
    lists, movers = sides.lists, sides.movers
    own = torch.arange(len(movers), device=movers.device)
    if lists.count == 1:
        return own, own, ranks[movers].argsort()
    may_be_alone = sides.swap and sides.halves == 1.0 and len(movers) <= lists.count
    if may_be_alone and bool(lists.counted(lists.group[movers]).amax() <= 1):
        key, first = first_of_each(size * (lists.longest + 1) + below)
        return key, first, None
    return own, own, None
