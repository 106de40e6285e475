r"""What items above an item cost a metric that adds up gains by rank, in many ranked lists at once.

.. math:: L = \tfrac12 \sum_l v_l \sum_i \Delta_{li} \sum_{j \ne i} k(s_{lj} - s_{li})

with :math:`\Delta_i` what the metric of list l loses by an item that passes item i: the slope of a secant between item
i moved up, and moved down, past as many others as lie within the sigmoid's reach. Those it passes move by one rank.
Each pair is counted from both sides, hence the half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.lists.pairs import joined, pairs_of, parts_of
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.metrics.of_ranks import OfRanks
from metricgrad.precision import wide

_BUMP = SIGMOID.derivative()


class RankSecants:
    """The loss of all lists, linearised where they stand.

    Args:
        lists: what is ranked.
        values: ``(L, M)`` of them, in units of the softness and without a gradient.
        path: of the metric of one list, of which higher is better.
        parameters: the metric's own.
        dtype: that pairs are summed in.
        width: of the secant, in ranks, from 4 times how many items are within the sigmoid's reach.
        kernel: k, which rises like a sigmoid.
        leak: whether pairs that are surely wrong keep the slope of :mod:`metricgrad.functional.leak`.

    Attributes:
        gradient: ``(L, M)``: of the loss in all values.
        informs: 0-d boolean, whether any move changes the metric.
        now: 0-d, the metric; NaN where it is undefined.
        ideal: 0-d, likewise where items stand as their targets do.
        total: 0-d, what the lists that have a value weigh together.
    """

    def __init__(
        self,
        lists: RankedLists,
        values: Tensor,
        path: OfRanks,
        parameters: dict[str, Any],
        dtype: torch.dtype,
        *,
        width: Callable[[Tensor], Tensor] = lambda near: near,
        kernel: Kernel = SIGMOID,
        leak: bool = False,
    ) -> None:
        self._kernel, self._leak, (count, size) = kernel, leak, values.shape
        self._parts = count, size * size
        depth = -values if lists.empty is None else (-values).masked_fill(lists.empty, torch.inf)
        depth, self._order = depth.contiguous().sort(1)
        self._there = depth < torch.inf
        self._lists, self._path, self._parameters = lists, path, parameters
        self._relevance = lists.relevance.gather(1, self._order)
        gains = path.gains(lists.relevance, lists.empty, **parameters).gather(1, self._order)
        first, past = (torch.searchsorted(depth, depth, right=right) for right in (False, True))
        discounts = path.discount(
            counted(size + 2, gains.dtype, gains.device, least=1).unfold(0, size, 1), **parameters
        )
        sooner, still, later = discounts.unbind()

        # the mean over the items of equal scores
        upto = _upto(torch.stack([still.expand_as(gains), gains]))
        discount, mean = ((_gather(upto, past) - _gather(upto, first)) / (past - first)).unbind()
        each = torch.stack([path.total(gains, discount), path.ideal(gains)])
        counts, means, self.total = lists.means(each, missing=path.missing)
        self.now, self.ideal = means.unbind()
        rank = wide(first + past + 1).to(gains.dtype) / 2
        passed = _upto(mean * torch.stack([later - still, sooner - still])[:, None])
        ends = self._there.sum(1, keepdim=True)
        nothing, slopes, gradients = filled(0.0, 1, gains.dtype, gains.device), [], []
        self._depth, self._rank, self._gains = depth, rank, gains
        depth = depth.masked_fill(~self._there, 0).to(dtype)
        for some in parts_of(*self._parts, values.device):
            pairs = pairs_of(depth[some], depth[some], self._there[some])
            reach = width(4 * wide(pairs.near(_BUMP))).clamp(min=1)
            up = (rank[some] - reach).clamp(min=1)
            down = torch.minimum(rank[some] + reach, ends[some])
            own = gains[some] * (path.discount(up, **parameters) - path.discount(down, **parameters))
            ends_of = torch.stack([torch.cat([up - 1, rank[some] - 1], 1), torch.cat([rank[some], down], 1)])
            start, end = _at(passed[:, some], ends_of).unflatten(2, (2, size)).unbind(2)
            above, below = (end - start).unbind()
            slope = counts[some, None] * (own + above - below) / (down - up).clamp(min=1) / 2
            slope = torch.where(self._there[some], slope, nothing).nan_to_num()
            pull, push = pairs.weighted(slope, kernel.derivative())
            if leak:
                surely = pairs_of(depth[some] - START, depth[some], self._there[some]).weighted(LEAK * slope, SIGMOID)
                pull, push = pull + surely[0], push + surely[1]
            gradients.append(torch.zeros_like(pull).scatter(1, self._order[some], pull - push))
            slopes.append(slope)
        self._slopes, self.gradient = joined(slopes), joined(gradients)
        self.informs = self._slopes.any()

    @property
    def worst(self) -> Tensor:
        """0-d: the metric where items stand the other way round."""
        there = self._there.sum(1, keepdim=True)
        rank = there - counted(self._gains.shape[1], torch.int64, there.device)
        discounts = self._path.discount(rank.clamp(min=1).to(self._gains), **self._parameters)
        found = self._path.total(self._gains.sort(1, descending=True).values, discounts)
        return self._lists.means(found[None], missing=self._path.missing)[1][0]

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether items tie that belong apart."""
        same, apart = self._depth.diff(dim=1) == 0, self._relevance.diff(dim=1) != 0
        return (same & apart & self._there[:, 1:]).any()

    def excess(self, values: Tensor) -> Tensor:
        """0-d: the loss, less what it is of hard counts, of which an item has itself and half of those that tie."""
        of_itself = self._kernel(self._rank.new_zeros(()))
        return self.loss(values) - (self._slopes * (self._rank - 1 + of_itself)).sum()

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found = []
        for some in parts_of(*self._parts, values.device):
            depth = -values[some].gather(1, self._order[some])
            slopes, there = self._slopes[some].to(depth), self._there[some]
            found.append((slopes * pairs_of(depth, depth, there).near(self._kernel)).sum())
            if self._leak:
                surely = LEAK * (slopes * pairs_of(depth - START, depth, there).near(SOFTPLUS)).sum()
                found.append(surely - surely.detach())
        return torch.stack(found).sum()


def _upto(values: Tensor) -> Tensor:
    """``(K, L, M + 1)`` sums of the first 0, 1, ... M."""
    return torch.nn.functional.pad(values.cumsum(2), (1, 0))


def _gather(values: Tensor, place: Tensor) -> Tensor:
    """``(K, L, ...)`` from the last axis, by places that are the same for each of the first axis or not."""
    return values.gather(2, place.expand(len(values), -1, -1))


def _at(upto: Tensor, place: Tensor) -> Tensor:
    """Sums of so many places, a share of a place for what is between two."""
    low = place.floor()
    index = low.long()
    return torch.lerp(_gather(upto, index), _gather(upto, (index + 1).clamp(max=upto.shape[2] - 1)), place - low)
