r"""What items above an item cost a metric that adds up gains by rank, in many ranked lists at once.

.. math:: L = \tfrac12 \sum_l v_l \sum_i \Delta_{li} \sum_{j \ne i} k(s_{lj} - s_{li})

with :math:`\Delta_i` what the metric of list l loses by an item that passes item i: the slope of a secant between item
i moved up, and moved down, past as many others as lie within the sigmoid's reach. Those it passes move by one rank.
Each pair is counted from both sides, hence the half.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled, listed
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS
from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.lists.pairs import HeldPairs, Plan, SummedPairs, joined, pulled, total
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.metrics.of_ranks import OfRanks

_BUMP = SIGMOID.derivative()


class RankSecants:
    """The loss of all lists, linearised where they stand.

    Args:
        lists: what is ranked.
        depth: ``(L, M)`` of them, values turned round, in units of the softness and without a gradient.
        path: of the metric of one list, of which higher is better.
        parameters: the metric's own.
        soft: how pairs are softened.

    Attributes:
        gradient: ``(L, M)``: of the loss in what is ranked.
        informs: 0-d boolean, whether any move changes the metric.
        now: 0-d, the metric; NaN where it is undefined.
        ideal: 0-d, likewise where items stand as their targets do.
        total: 0-d, what the lists that have a value weigh together.
        excess: 0-d, the loss, less what it is of hard counts; zero where it is not asked for.
    """

    def __init__(
        self,
        lists: RankedLists,
        depth: Tensor,
        path: OfRanks,
        parameters: dict[str, Any],
        soft: Softening,
    ) -> None:
        self._lists, self._path, self._parameters, self._soft = lists, path, parameters, soft
        size, device = depth.shape[1], depth.device
        self._plan = Plan.of(size, depth)
        depth = depth if lists.empty is None else depth.masked_fill(lists.empty, torch.inf)
        depth, self._order = depth.contiguous().sort(1)
        self._there = None if lists.empty is None else depth < torch.inf
        gains = path.gains(lists.relevance, lists.empty, **parameters).gather(1, self._order)
        discounts, changes = path.of_places(size, device, **parameters)
        first, past = (torch.searchsorted(depth, depth, right=right) for right in (False, True))
        rank = torch.add(filled(0.5, 1, gains.dtype, device), first + past, alpha=0.5)

        # the mean over the items of equal scores, which share the places that they take up
        upto = torch.nn.functional.pad(gains.cumsum(1), (1, 0))
        mean = (upto.gather(1, past) - upto.gather(1, first)) / (past - first)
        each = torch.stack([path.shown(mean @ discounts, rank), path.ideal(gains)])
        shares, means, self.total = lists.means(each, missing=path.missing)
        self.now, self.ideal = means.unbind()
        # at index k what items to rank k - 1 lose where each comes one later, and to rank k where each comes sooner
        passed = torch.nn.functional.pad(mean, (2, 1)).unfold(1, size + 2, 1) * changes
        self._depth, self._rank, self._gains, upto = depth, rank, gains, passed.cumsum(2)
        some_of = self._plan.parts(len(depth))
        found = [
            self._linearised(some, depth.to(soft.dtype), passed[some], upto[some], shares[some]) for some in some_of
        ]
        slopes, gradients, excess = zip(*found, strict=True)
        self._slopes, self.gradient, self.excess = joined(slopes), joined(gradients), total(excess)
        self.informs = self._slopes.any()

    def _linearised(
        self, some: slice, depth: Tensor, passed: Tensor, upto: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes ``(l, M)``, the gradient likewise and the excess of some of the lists."""
        pairs, rank = self._pairs(depth, some), self._rank[some]
        surely = self._pairs(depth, some, START) if self._soft.leak else None
        moved = self._moved(rank, self._soft.width(pairs.near(_BUMP)).clamp(min=1), some)
        others = _between(upto, passed, torch.cat([moved, rank[:, None].expand_as(moved)], 2))
        (more, less), (up, down) = self._path.discount(moved, **self._parameters).unbind(1), moved.unbind(1)
        slopes = torch.addcmul(others.sum(1), self._gains[some], more - less)
        nothing = filled(0.0, 1, rank.dtype, rank.device)
        # each pair is counted from both sides; of an item that cannot move there is nothing
        slopes = torch.addcdiv(nothing, shares[:, None] * slopes, down - up, value=0.5).nan_to_num()
        if self._there is not None:
            slopes = torch.where(self._there[some], slopes, nothing)
        weights = slopes.to(depth)
        pull, near = pulled(pairs, surely, weights, self._soft)
        gradient = torch.addcmul(pull, near, weights, value=-self._soft.steepness)
        gradient = torch.empty_like(gradient).scatter_(1, self._order[some], gradient)
        if not self._soft.valued:
            return slopes, gradient, nothing[0]
        # an item has itself above it, and half of those that tie
        above = rank - 1 + float(self._soft.kernel(torch.zeros((), dtype=torch.float64)))
        return slopes, gradient, (slopes * (pairs.near(self._soft.kernel) - above)).sum()

    def _pairs(self, depth: Tensor, some: slice, start: float = 0.0) -> HeldPairs | SummedPairs:
        """Of all items with all, an item with itself included."""
        depth = depth[some]
        up = depth if self._there is None else depth.masked_fill(~self._there[some], 0)
        return self._plan.pairs(up - start if start else up, depth)

    def _moved(self, rank: Tensor, reach: Tensor, some: slice) -> Tensor:
        """``(l, 2, M)`` ranks of each item moved up, and moved down, within its list."""
        both_ways = listed((-1.0, 1.0), rank.dtype, rank.device)[:, None]
        moved = torch.addcmul(rank[:, None], reach[:, None], both_ways)
        if self._there is None:
            return moved.clamp(1, rank.shape[1])
        last = self._there[some].sum(1, keepdim=True)
        return torch.minimum(moved.clamp(min=1), last[:, None])

    @property
    def worst(self) -> Tensor:
        """0-d: the metric where items stand the other way round."""
        size = self._gains.shape[1]
        last = size if self._there is None else self._there.sum(1, keepdim=True)
        rank = (last - counted(size, self._gains.dtype, self._gains.device)).clamp(min=1).expand_as(self._gains)
        found = self._gains.sort(1, descending=True).values * self._path.discount(rank, **self._parameters)
        return self._lists.means(self._path.shown(found.sum(1), rank)[None], missing=self._path.missing)[1][0]

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether items tie that belong apart."""
        relevance = self._lists.relevance.gather(1, self._order)
        found = (self._depth.diff(dim=1) == 0) & (relevance.diff(dim=1) != 0)
        return (found if self._there is None else found & self._there[:, 1:]).any()

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found, depth = [], -values.gather(1, self._order)
        if self._there is not None:
            depth = depth.masked_fill(~self._there, torch.inf)
        for some in self._plan.parts(len(values)):
            slopes = self._slopes[some].to(depth)
            found.append((slopes * self._pairs(depth, some).near(self._soft.kernel)).sum())
            if self._soft.leak:
                surely = LEAK * (slopes * self._pairs(depth, some, START).near(SOFTPLUS)).sum()
                found.append(surely - surely.detach())
        return total(found)


def _between(upto: Tensor, each: Tensor, place: Tensor) -> Tensor:
    """``(l, 2, M)``: what lies between each of the first M places and each of the M behind, a share of a place too.

    Args:
        upto: ``(l, 2, K)`` sums of ``each`` up to a place.
        each: ``(l, 2, K)``.
        place: ``(l, 2, 2M)``, from 0 to below K - 1.
    """
    low = place.long()
    found = torch.addcmul(upto.gather(2, low), each[:, :, 1:].gather(2, low), place - low)
    start, end = found.unflatten(2, (2, -1)).unbind(2)
    return end - start
