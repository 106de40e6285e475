"""Strict orders of ranked lists in which scores tie: the loss is its mean over the orders that break the ties.

Items of one list with equal scores form a block. Within a block only where each relevance stands can matter, so the
orders to average over are the arrangements of its relevances: all of them where they are few, otherwise as many pairs
of a random arrangement and its reverse, in which any two tied items stand either way equally often. Nothing depends on
the order of the data: items are first sorted by what they are, and what is equal in all of it is of one kind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.refactoring.ranking.lists import Lists

_ENUMERATED = 2**13
"""Items times orders up to which every arrangement is visited."""
_SAMPLED = 2**11
"""Items times orders that are drawn where they are more."""
_FEWEST = 8


@dataclass(frozen=True)
class Orders:
    """S strict orders of the items of all lists.

    Attributes:
        ranks: ``(S, M)`` how many items of its list each item stands above.
        kind: ``(M,)`` number of the items that are equal in list, score, relevance and whatever else tells them apart;
            None where no two items of a list tie, and S is then 1.
    """

    ranks: Tensor
    kind: Tensor | None

    def shared(self, values: Tensor) -> Tensor:
        """The ``(M,)`` values, items of one kind sharing their gradient evenly."""
        if self.kind is None:
            return values
        size = torch.bincount(self.kind).to(values)
        mean = values.new_zeros(len(size)).index_add(0, self.kind, values) / size
        return values.detach() + (mean - mean.detach())[self.kind]


def strict_orders(lists: Lists, apart: Tensor | None, most: int, generator: torch.Generator) -> Orders:
    """The orders that break the ties of each list.

    Args:
        lists: M items, M > 0.
        apart: ``(M,)`` numbers that tell items of equal score and relevance apart, such as weights.
        most: orders at most; 2 or more.
        generator: a CPU generator.

    Cost: one sort where nothing ties; up to three more where something does.
    """
    hard, group = lists.values.detach(), lists.group
    if lists.count == 1:
        ascending, order = hard.sort()
        if not bool((ascending[1:] == ascending[:-1]).any()):
            return Orders(_inverse(order)[None], None)
    order = _by(group, hard.argsort(), lists.count)
    first = lists.sizes.cumsum(0) - lists.sizes
    tied = hard[order].diff() == 0
    if lists.count > 1:
        tied &= group[order].diff() == 0
    if not bool(tied.any()):
        return Orders((_inverse(order) - first[group])[None], None)
    level = lists.relevance.unique(return_inverse=True)[1]
    if apart is not None:
        numbers, which = apart.unique(return_inverse=True)
        level = level * len(numbers) + which
    order = level.argsort(stable=True)
    order = _by(group, order[hard[order].argsort(stable=True)], lists.count)
    block = _runs(hard[order], group[order])
    kind = _runs(block, level[order])
    within = torch.arange(len(order), device=order.device) - first[group[order]]
    rank = _ranks(block, kind, group[order], within, most, generator)
    inverse = _inverse(order)
    return Orders(rank[:, inverse], kind[inverse])


def _by(group: Tensor, order: Tensor, count: int) -> Tensor:
    return order if count == 1 else order[group[order].argsort(stable=True)]


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _runs(*sorted_values: Tensor) -> Tensor:
    """``(M,)`` number of each run of items in which none of the values changes."""
    changes = torch.stack([values.diff() != 0 for values in sorted_values]).any(0)
    return torch.nn.functional.pad(changes.long().cumsum(0), (1, 0))


def _ranks(block: Tensor, kind: Tensor, group: Tensor, within: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """``(S, M)`` ranks within each list, of items sorted by list, score and kind; ``within`` is where they stand."""
    count = len(within)
    if kind[-1] == block[-1]:  # only items that are equal in all tie
        return within[None]
    most_tabled = min(most, _ENUMERATED // count)
    tables = _tables(block.tolist(), kind.tolist(), group.tolist(), most_tabled) if most_tabled > 1 else {0: None}
    every = None not in tables.values()
    orders = math.lcm(*(len(table) for table in tables.values() if table))
    if not every or orders > most_tabled:
        every, orders = False, min(most, max(_FEWEST, _SAMPLED // count)) // 2 * 2
    ranks = within.expand(orders, -1).clone()
    if None in tables.values():
        # the same draws in each list: lists may come in any order
        keys = torch.rand((orders // 2, int(within.max()) + 1), generator=generator, dtype=torch.float64)
        keys = keys.to(block.device)[:, within]
        drawn = (block + torch.cat([keys, 1 - keys]).clamp(max=1 - 1e-12)).argsort(1)
        ranks.scatter_(1, drawn, within.expand(orders, -1))
    start = (within == 0).nonzero().squeeze(-1).tolist()
    turn = torch.arange(orders, dtype=torch.float64)
    if not every:
        turn += torch.rand((), generator=generator)
    for number, table in tables.items():
        if table:
            low = start[number]
            row = (turn * len(table) / orders).long() % len(table)
            chosen = torch.tensor(table)[row].to(ranks)
            ranks[:, low : low + chosen.shape[1]] = chosen
    return ranks


def _tables(block: list[int], kind: list[int], group: list[int], most: int) -> dict[int, list[tuple[int, ...]] | None]:
    """For each list, in order, the ranks of its items in every arrangement, or None where there are more than most."""
    found: dict[int, list[tuple[int, ...]] | None] = {}
    known: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...]] | None] = {}
    rows = zip(group, block, kind, strict=True)
    for number, (_, items) in enumerate(itertools.groupby(rows, key=lambda row: row[0])):
        sizes = tuple(
            tuple(len(list(same)) for _, same in itertools.groupby(of_block, key=lambda row: row[2]))
            for _, of_block in itertools.groupby(items, key=lambda row: row[1])
        )
        if sizes not in known:
            total = math.prod(_ways(kinds) for kinds in sizes)
            known[sizes] = _all_ranks(sizes) if total <= most else None
        found[number] = known[sizes]
    return found


def _ways(sizes: tuple[int, ...]) -> int:
    """In how many ways kinds of these sizes can be arranged in a row."""
    return math.prod(math.comb(sum(sizes[: k + 1]), size) for k, size in enumerate(sizes))


def _all_ranks(blocks: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """The ranks of a list's items, kind by kind and block by block, in each arrangement."""
    ends = list(itertools.accumulate((sum(kinds) for kinds in blocks), initial=0))
    choices = [
        [tuple(low + rank for rank in row) for row in _arranged(kinds, tuple(range(sum(kinds))))]
        for low, kinds in zip(ends, blocks, strict=False)
    ]
    return [tuple(itertools.chain(*parts)) for parts in itertools.product(*choices)]


def _arranged(sizes: tuple[int, ...], free: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not sizes:
        yield ()
        return
    for taken in itertools.combinations(free, sizes[0]):
        left = tuple(rank for rank in free if rank not in taken)
        for rest in _arranged(sizes[1:], left):
            yield taken + rest
