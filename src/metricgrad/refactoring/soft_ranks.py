"""Where items of ranked lists stand: hard and soft counts of what they have passed, and which of them to move."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from metricgrad.functional.kernels import SIGMOID, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.refactoring.base import choose
from metricgrad.refactoring.lists import Lists

_DENSE_LIST = 256
_DENSE_TERMS = 2**22
_BUMP = SIGMOID.derivative()


def stand(places: Tensor, lists: Lists, movers: Tensor, against: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where each mover stands among the items of its list that it is compared with, in one strict order.

    Args:
        places: ``(M,)`` how many items of its list each item stands above.
        lists: the items.
        movers: ``(K,)`` items.
        against: ``(A,)`` the items they are compared with.

    Returns:
        ``below`` (K,) how many of the others stand below it; ``ladder`` (A,) places of the others, ascending within
        each list; ``start`` (K,) where the mover's list begins in the ladder; ``size`` (K,) the others in its list.
    """
    own = movers is against
    rank = places
    if lists.count > 1:
        per_list = torch.bincount(lists.group, minlength=lists.count)
        rank = places + (per_list.cumsum(0) - per_list)[lists.group]
    order = torch.empty_like(rank).scatter_(0, rank, torch.arange(len(rank), device=rank.device))
    is_other = torch.zeros_like(lists.group).index_fill(0, against, 1)[order]
    ladder = places[order][is_other.bool()]
    others = torch.bincount(lists.group[against], minlength=lists.count)
    before = (is_other.cumsum(0) - is_other)[rank[movers]]
    start = (others.cumsum(0) - others)[lists.group[movers]]
    return before - start, ladder, start, others[lists.group[movers]] - int(own)


def place_at(ladder: Tensor, start: Tensor, count: Tensor) -> Tensor:
    """A place, between two items, that stands above exactly ``count`` of the ladder entries from ``start`` on."""
    low = ladder[(start + count - 1).clamp(min=0)]
    return torch.where(count == 0, ladder[start.clamp(max=len(ladder) - 1)] - 0.5, low + 0.5)


def soft_counts(values: Tensor, lists: Lists, movers: Tensor, against: Tensor, kernel: Kernel = SIGMOID) -> Tensor:
    """``(K,)`` sum over the others of its list of kernel(value - other)."""
    if len(movers) == 0 or len(against) == 0:
        return values.new_zeros(len(movers))
    if lists.count == 1:
        return pair_sum(values[movers], values[against], kernel=kernel)
    longest = int(torch.bincount(lists.group).max())
    if longest > _DENSE_LIST and longest * len(movers) > _DENSE_TERMS:
        out = values.new_zeros(len(movers))
        for g in range(lists.count):
            mine = (lists.group[movers] == g).nonzero().squeeze(-1)
            others = against[lists.group[against] == g]
            out = out.index_put((mine,), pair_sum(values[movers[mine]], values[others], kernel=kernel))
        return out
    padded, present = _pad(values[against], lists.group[against], lists.count)
    group = lists.group[movers]
    return (kernel(values[movers][:, None] - padded[group]) * present[group]).sum(1)


def surely_above(values: Tensor, lists: Lists, movers: Tensor, against: Tensor) -> Tensor:
    """``(K,)`` zeros with the gradient of :mod:`metricgrad.functional.leak`, for the others far above each mover."""
    both = torch.cat([-values - START, -values])
    twice = dataclasses.replace(lists, values=both, group=torch.cat([lists.group, lists.group]))
    counted = LEAK * soft_counts(both, twice, movers, against + len(values), SOFTPLUS)
    return counted - counted.detach()


def blur(values: Tensor, lists: Lists, movers: Tensor, against: Tensor) -> Tensor:
    """How many others the softness blurs each mover with, on one side: a density, 2 sum_j sigma'."""
    return 2 * soft_counts(values, lists, movers, against, kernel=_BUMP)


def _pad(values: Tensor, group: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = group.argsort(stable=True)
    sizes = torch.bincount(group, minlength=count)
    position = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group[order]]
    width = int(sizes.max()) if len(sizes) else 0
    out = values.new_zeros(count, width).index_put((group[order], position), values[order])
    return out, (position.new_zeros(count, width).index_put((group[order], position), torch.ones_like(position))).to(
        values
    )


def sample(
    key: Tensor, first: Tensor, order: Tensor | None, mass: Tensor, budget: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Which movers are moved for real, and how the slopes of the others follow from theirs.

    Returns:
        ``left``, ``right`` (K,) indices into the sampled, ``fraction`` between them, a ``weight`` for each mover, and
        ``sampled`` (S,) mover indices.
    """
    count = len(first)
    zero, one = torch.zeros_like(mass), torch.ones_like(mass)
    if count <= budget:
        return key, key, zero, one, first
    if order is not None:
        half = budget // 2
        even = torch.linspace(0, count - 1, budget - half)
        near_top = count - 1 - (torch.logspace(0, torch.log10(torch.tensor(float(count))), half) - 1)
        knots = torch.cat([even, near_top]).round().long().clamp(0, count - 1).unique().to(key.device)
        place = torch.empty_like(order).scatter(0, order, torch.arange(count, device=order.device))
        right = torch.searchsorted(knots, place)
        left = (right - (knots[right] != place).long()).clamp(min=0)
        gap = (knots[right] - knots[left]).clamp(min=1)
        return left, right, ((place - knots[left]) / gap).to(mass), one, order[knots]
    total = mass.new_zeros(count).index_add(0, key, mass)
    index, scale = choose(total, budget, generator)
    if len(index) == 0:  # nothing is soft any more: one move, of no weight
        index, scale = key.new_zeros(1), mass.new_zeros(1)
    slot = torch.zeros(count, dtype=torch.long, device=key.device)
    slot[index] = torch.arange(len(index), device=key.device)
    weight = mass.new_zeros(count).index_put((index,), scale)
    return slot[key], slot[key], zero, weight[key], first[index]
