"""Hard and soft ranks: how many items of its list each item has passed, and which items to move for real."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metricgrad.functional.kernels import SIGMOID, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.refactoring.ranking.lists import Lists
from metricgrad.refactoring.strata import choose

_DENSE_LIST = 256
_DENSE_TERMS = 2**22
_BUMP = SIGMOID.derivative()


@dataclass(frozen=True)
class Standing:
    """Where movers stand among the items of their lists that they are compared with, in one strict order.

    Attributes:
        below: ``(K,)`` how many of the others stand below each.
        size: ``(K,)`` how many others there are.
        others: ``(A,)`` sorted ranks of the others, ascending within each list.
        start: ``(K,)`` where the mover's list begins in them.
    """

    below: Tensor
    size: Tensor
    others: Tensor
    start: Tensor


def standing(ranks: Tensor, lists: Lists, movers: Tensor, against: Tensor) -> Standing:
    """The hard counts of one strict order.

    Args:
        ranks: ``(M,)`` how many items of its list each item stands above.
        lists: the items.
        movers: ``(K,)`` items.
        against: ``(A,)`` the items they are compared with.
    """
    own = movers is against
    position = ranks
    if lists.count > 1:
        position = ranks + (lists.sizes.cumsum(0) - lists.sizes)[lists.group]
    order = torch.empty_like(position).scatter_(0, position, torch.arange(len(position), device=position.device))
    is_other = torch.zeros_like(lists.group).index_fill(0, against, 1)[order]
    others = lists.counted(lists.group[against])
    before = (is_other.cumsum(0) - is_other)[position[movers]]
    start = (others.cumsum(0) - others)[lists.group[movers]]
    size = others[lists.group[movers]] - int(own)
    return Standing(before - start, size, ranks[order[position[against].sort().values]], start)


def rank_above(others: Tensor, start: Tensor, count: Tensor) -> Tensor:
    """A rank, between two items, that is above exactly ``count`` of the sorted others from ``start`` on."""
    # a softness that a file claims may be infinite: then a count of what it reaches is no number of theirs
    low = others[(start + count - 1).clamp(min=0, max=len(others) - 1)]
    return torch.where(count == 0, others[start.clamp(max=len(others) - 1)] - 0.5, low + 0.5)


def soft_counts(values: Tensor, lists: Lists, movers: Tensor, against: Tensor, kernel: Kernel = SIGMOID) -> Tensor:
    """``(K,)`` sum over the others of its list of kernel(value - other)."""
    if len(movers) == 0 or len(against) == 0:
        return values.new_zeros(len(movers))
    if lists.count == 1:
        return pair_sum(values[movers], values[against], kernel=kernel)
    if lists.longest > _DENSE_LIST and lists.longest * len(movers) > _DENSE_TERMS:
        out = values.new_zeros(len(movers))
        for g in range(lists.count):
            mine = (lists.group[movers] == g).nonzero().squeeze(-1)
            others = against[lists.group[against] == g]
            out = out.index_put((mine,), pair_sum(values[movers[mine]], values[others], kernel=kernel))
        return out
    padded, present = _pad(values[against], lists.group[against], lists)
    group = lists.group[movers]
    return (kernel(values[movers][:, None] - padded[group]) * present[group]).sum(1)


def surely_above(values: Tensor, lists: Lists, movers: Tensor, against: Tensor) -> Tensor:
    """``(K,)`` zeros with the gradient of :mod:`metricgrad.functional.leak`, for the others far above each mover."""
    both = torch.cat([-values - START, -values])
    twice = replace(lists, values=both, group=torch.cat([lists.group, lists.group]))
    counted = LEAK * soft_counts(both, twice, movers, against + len(values), SOFTPLUS)
    return counted - counted.detach()


def local_density(values: Tensor, lists: Lists, movers: Tensor, against: Tensor) -> Tensor:
    """``(K,)`` how many others lie within the softness of each mover, on one side: 2 sum_j sigma'."""
    return 2 * soft_counts(values, lists, movers, against, kernel=_BUMP)


def _pad(values: Tensor, group: Tensor, lists: Lists) -> tuple[Tensor, Tensor]:
    """``(count, longest)`` values of some items, list by list, and ones where there are any."""
    order, sizes = group.argsort(stable=True), lists.counted(group)
    group = group[order]
    place = group, torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group]
    nothing = values.new_zeros(lists.count, lists.longest)
    return nothing.index_put(place, values[order]), nothing.detach().index_put(place, torch.ones_like(values))


@dataclass(frozen=True)
class Sampled:
    """Movers that are tried, and how the slopes of all movers follow from theirs.

    Attributes:
        index: ``(S,)`` the movers tried.
        left: ``(K,)`` for each mover one of the S.
        right: ``(K,)`` another, between which its slope is interpolated.
        fraction: ``(K,)`` how far towards it.
        weight: ``(K,)`` what each counts.
    """

    index: Tensor
    left: Tensor
    right: Tensor
    fraction: Tensor
    weight: Tensor

    def spread_out(self, slope: Tensor) -> Tensor:
        """``(K,)`` slopes of all movers, with their weights, from ``(S,)``."""
        between = slope[self.left] * (1 - self.fraction) + slope[self.right] * self.fraction
        return between * self.weight


def sampled(
    key: Tensor, first: Tensor, order: Tensor | None, mass: Tensor, budget: int, generator: torch.Generator
) -> Sampled:
    """Which movers are tried: one for each key, or as many as the budget allows.

    In one list the slope changes little from an item to the next, so movers are tried at knots along the order, denser
    towards the top, where metrics of rankings change most. Of many lists, keys are drawn in proportion to their mass.

    Args:
        key: ``(K,)`` equal for movers that are worth the same.
        first: one mover of each key.
        order: the movers in ascending order, where there is one list.
        mass: ``(K,)`` how far each mover's soft count is from its hard one.
        budget: movers at most.
        generator: a CPU generator.
    """
    zero, one = torch.zeros_like(mass), torch.ones_like(mass)
    if len(first) <= budget:
        return Sampled(first, key, key, zero, one)
    return _drawn_keys(key, first, mass, budget, generator) if order is None else _knots(order, mass, budget)


def _knots(order: Tensor, mass: Tensor, budget: int) -> Sampled:
    count, half = len(order), budget // 2
    even = torch.linspace(0, count - 1, budget - half)
    near_top = count - 1 - (torch.logspace(0, torch.log10(torch.tensor(float(count))), half) - 1)
    knots = torch.cat([even, near_top]).round().long().clamp(0, count - 1).unique().to(order.device)
    position = torch.empty_like(order).scatter(0, order, torch.arange(count, device=order.device))
    right = torch.searchsorted(knots, position)
    left = (right - (knots[right] != position).long()).clamp(min=0)
    gap = (knots[right] - knots[left]).clamp(min=1)
    return Sampled(order[knots], left, right, ((position - knots[left]) / gap).to(mass), torch.ones_like(mass))


def _drawn_keys(key: Tensor, first: Tensor, mass: Tensor, budget: int, generator: torch.Generator) -> Sampled:
    total = mass.new_zeros(len(first)).index_add(0, key, mass)
    index, scale = choose(total, budget, generator)
    if len(index) == 0:  # nothing is soft any more: one move, of no weight
        index, scale = key.new_zeros(1), mass.new_zeros(1)
    slot = torch.zeros(len(first), dtype=torch.long, device=key.device)
    slot[index] = torch.arange(len(index), device=key.device)
    weight = mass.new_zeros(len(first)).index_put((index,), scale)
    return Sampled(first[index], slot[key], slot[key], torch.zeros_like(mass), weight[key])
