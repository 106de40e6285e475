"""Lists that are ranked each for itself: by query group, by row, or all items as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.precision import wide


@dataclass(frozen=True)
class Queries:
    """T rankings of the same M items, list by list, the best of each list first.

    Attributes:
        gain: ``(T, M)`` the targets in ranked order.
        rank: ``(M,)`` place in the list, from 0.
        query: ``(M,)`` number of the list, rising from 0.
        first: ``(T, M)`` place of the first item of each item's block of equal scores.
        last: ``(T, M)`` place of its last.
        count: how many lists there are.
    """

    gain: Tensor
    rank: Tensor
    query: Tensor
    first: Tensor
    last: Tensor
    count: int

    def total(self, values: Tensor) -> Tensor:
        """``(T, Q)`` sums of ``(T, M)`` values over each list."""
        index = self.query.expand(values.shape)
        return values.new_zeros(len(values), self.count).scatter_add(1, index, values)

    def largest(self, values: Tensor) -> Tensor:
        """``(T, Q)`` largest of the values, at least 0, in each list."""
        index = self.query.expand(values.shape)
        return values.new_zeros(len(values), self.count).scatter_reduce(1, index, values, "amax")

    @property
    def relevant(self) -> Tensor:
        """``(T, M)`` 1 where the target is above 0."""
        return wide((self.gain > 0).float())


def weights_of_queries(weight: Tensor, groups: Tensor | None) -> Tensor:
    """``(Q,)`` of ``(N,)`` weights that are the same within each query.

    Args:
        weight: of each item, or of each row where rows are queries.
        groups: ``(N,)`` query of each item; None where all are one query.

    Raises:
        MetricgradError: where weights differ within a query.
    """
    which = torch.zeros_like(weight, dtype=torch.long) if groups is None else groups.unique(return_inverse=True)[1]
    found = weight.new_zeros(int(which.max()) + 1).index_put((which,), weight)
    if not bool((found[which] == weight).all()):
        raise MetricgradError(
            "sample_weight differs within a query, and queries are what is weighed here; pass one value for each "
            "query, in ascending order of their numbers in groups, or the same for all items of a query"
        )
    return wide(found)


def as_gains(read: Tensor, targets: Tensor) -> Tensor:
    """Targets as float64 gains of the shape of one score set: of ``(N,)`` classes, each row's own one is 1."""
    if read.ndim == 3 and targets.ndim == 1:
        targets = torch.nn.functional.one_hot(targets, read.shape[-1])
    return wide(targets).to(wide(read).dtype)


def queries(read: Tensor, targets: Tensor, groups: Tensor | None = None) -> Queries:
    """Rank every list. Among equal scores the less relevant come first, whatever the order of the data.

    Args:
        read: ``(T, N)`` scores of items, or ``(T, N, C)`` with a list in each row.
        targets: ``(N,)`` or ``(N, C)`` gains.
        groups: ``(N,)`` integer query of each item; without it ``(T, N)`` scores are one list.
    """
    if read.ndim == 3:
        if groups is not None:
            raise MetricgradError("each row of (N, C) scores is a query by itself; leave groups out")
        query = torch.arange(read.shape[1], device=read.device).repeat_interleave(read.shape[2])
        read, targets = read.flatten(1), targets.reshape(-1)
    elif groups is None:
        query = torch.zeros_like(targets, dtype=torch.long)
    else:
        query = groups.unique(return_inverse=True)[1].to(read.device)
    by_gain = targets.argsort(stable=True)
    read, targets, query = read[:, by_gain], targets[by_gain], query[by_gain]
    order = read.argsort(dim=1, descending=True, stable=True)
    if int(query.max()) > 0:
        order = order.gather(1, query[order].argsort(dim=1, stable=True))
    ordered, query = read.gather(1, order), query.sort().values
    place = torch.arange(len(query), device=read.device)
    starts = torch.ones_like(query, dtype=torch.bool)
    starts[1:] = query[1:] != query[:-1]
    start = torch.where(starts, place, 0).cummax(0).values
    new = starts.expand(ordered.shape).clone()
    new[:, 1:] |= ordered[:, 1:] != ordered[:, :-1]
    end = torch.ones_like(new)
    end[:, :-1] = new[:, 1:]
    first = torch.where(new, place, 0).cummax(1).values
    last = torch.where(end, place, len(place)).flip(1).cummin(1).values.flip(1)
    return Queries(
        targets[order],
        place - start,
        query,
        first - start,
        last - start,
        int(query[-1]) + 1,
    )
