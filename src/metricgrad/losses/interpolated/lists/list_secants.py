r"""What negatives above a positive cost a mean over many ranked lists, all lists at once.

The loss of :mod:`metricgrad.losses.interpolated.lists.secants` for each list l by itself, weighed by its share
:math:`v_l` of the mean:

.. math:: L = \sum_l v_l \sum_i \Delta_{li} \sum_j k(t_{lj} - s_{li})
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import filled, listed
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS
from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.lists.pairs import Plan, joined, pulled, total
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.metrics.counts_of_lists import CountsOfLists
from metricgrad.metrics.of_counts import OfCounts

_BUMP = SIGMOID.derivative()


class ListSecants:
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
        now: 0-d, the metric; NaN where no list has a value.
        ideal: 0-d, likewise where no negative stands above a positive.
        total: 0-d, what the lists that have a value weigh together.
        excess: 0-d, the loss, less what it is of hard counts; zero where it is not asked for.
    """

    def __init__(
        self,
        lists: RankedLists,
        depth: Tensor,
        path: OfCounts,
        parameters: dict[str, Any],
        soft: Softening,
    ) -> None:
        self._soft, sides, device, dtype = soft, lists.sides(), depth.device, soft.dtype
        positives, negatives = sides.sum(2, keepdim=True).unbind()
        most = max(1, int(positives.cpu().amax()) if lists.most is None else lists.most)
        self._plan = Plan.of(most, depth)
        # what is not of a side stands below all that is
        below = listed((torch.finfo(dtype).max, torch.inf), depth.dtype, device)[:, None, None]
        depths = torch.where(sides, depth, below, out=depth.new_empty(sides.shape))  # side by side, as for a search
        ordered, place = depths.sort(2)
        up, self._place, down = ordered[0, :, :most].contiguous(), place[0, :, :most], ordered[1]
        self._looked_at = sides[1] if soft.share == 1 else _highest(depth, sides[1], soft.share)
        counted = negatives.clamp(min=1) if path.needs_negatives else negatives
        self._counts = CountsOfLists(path, up, down, positives, counted, parameters)
        there = self._counts.there
        if path.needs_negatives:
            there = there & (negatives > 0)
        self._weight, self.total = lists.of_positives(there, positives, path.missing)
        depth = depths[1] if soft.share == 1 else torch.where(self._looked_at, depths[1], below[1])
        # where there is no positive it stands at 0, from which all distances are finite
        up, depth = torch.mul(up, self._counts.there, out=torch.empty_like(up, dtype=dtype)), depth.to(dtype)
        found = [self._linearised(some, up, depth) for some in self._plan.parts(len(depth))]
        slopes, gradients, means, excess = zip(*found, strict=True)
        self._slopes, self.gradient, self.excess = joined(slopes), joined(gradients), total(excess)
        self.now, self.ideal = total(means).unbind()
        self.informs = self._slopes.any()

    def _linearised(self, some: slice, up: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Slopes ``(l, P)``, the gradient ``(l, M)``, two means and the excess of some of the lists."""
        pairs = self._plan.pairs(up[some], depth[some])
        surely = self._plan.pairs(up[some] - START, depth[some]) if self._soft.leak else None
        reach = self._soft.width(pairs.near(_BUMP)).clamp(min=1)
        means, slopes, above = self._counts.moved(some, reach, self._weight[some], up.dtype)
        pull, near = pulled(pairs, surely, slopes, self._soft)
        nothing = filled(0.0, 1, up.dtype, up.device)
        down = torch.addcmul(nothing, slopes, near, value=-self._soft.steepness)
        gradient = pull.scatter_add_(1, self._place[some], down)
        if not self._soft.valued:
            return slopes, gradient, means, nothing[0]
        excess = torch.sub(pairs.near(self._soft.kernel), above, out=torch.empty_like(slopes))
        return slopes, gradient, means, torch.dot(slopes.flatten(), excess.flatten())

    @property
    def worst(self) -> Tensor:
        """0-d: the metric where all negatives stand above all positives."""
        return self._counts.worst(self._weight)

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether a positive ties with a negative."""
        return (self._counts.tied & self._counts.there).any()

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found, below = [], filled(torch.inf, 1, values.dtype, values.device)
        for some in self._plan.parts(len(values)):
            own, place = values[some], self._place[some]
            up, slopes = -own.gather(1, place), self._slopes[some].to(own)
            down = torch.where(self._looked_at[some], -own, below)
            found.append((slopes * self._plan.pairs(up, down).near(self._soft.kernel)).sum())
            if self._soft.leak:
                surely = LEAK * (slopes * self._plan.pairs(up - START, down).near(SOFTPLUS)).sum()
                found.append(surely - surely.detach())
        return total(found)


def _highest(depth: Tensor, of: Tensor, share: float) -> Tensor:
    """Which of some items are among the highest of them, in all lists."""
    depths = depth[of]
    return of & (depth <= depths.topk(max(1, round(share * len(depths))), largest=False).values[-1:])
