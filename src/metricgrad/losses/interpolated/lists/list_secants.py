r"""What negatives above a positive cost a mean over many ranked lists, all lists at once.

The loss of :mod:`metricgrad.losses.interpolated.lists.secants` for each list l by itself, weighed by its share
:math:`v_l` of the mean:

.. math:: L = \sum_l v_l \sum_i \Delta_{li} \sum_j k(t_{lj} - s_{li})
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled, listed
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS
from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.lists.pairs import Plan, joined, pulled, total
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.precision import wide_dtype

_BUMP = SIGMOID.derivative()


class ListSecants:
    """The loss of all lists, linearised where they stand.

    Args:
        lists: what is ranked.
        values: ``(L, M)`` of them, in units of the softness and without a gradient.
        path: of the metric of one list, of which higher is better.
        parameters: the metric's own.
        soft: how pairs are softened.

    Attributes:
        gradient: ``(L, M)``: of the loss in all values.
        informs: 0-d boolean, whether any move changes the metric.
        now: 0-d, the metric; NaN where no list has a value.
        ideal: 0-d, likewise where no negative stands above a positive.
        total: 0-d, what the lists that have a value weigh together.
        excess: 0-d, the loss, less what it is of hard counts; zero where it is not asked for.
    """

    def __init__(
        self,
        lists: RankedLists,
        values: Tensor,
        path: OfCounts,
        parameters: dict[str, Any],
        soft: Softening,
    ) -> None:
        self._lists, self._path, self._parameters, self._soft = lists, path, parameters, soft
        sides, device, dtype = lists.sides(), values.device, soft.dtype
        self._counts = sides.sum(2, keepdim=True)
        positives, negatives = self._counts.unbind()
        self._most = most = max(1, int(positives.amax()))
        self._plan = Plan.of(most, values)
        # what is not of a side stands below all that is: finite among positives, whose distances are taken
        below = listed((torch.finfo(dtype).max, torch.inf), values.dtype, device)[:, None, None]
        depths = torch.where(sides, -values, below, out=values.new_empty(sides.shape))  # side by side, as for a search
        ordered, place = depths.sort(2)
        up, self._place, down = ordered[0, :, :most].contiguous(), place[0, :, :most], ordered[1]
        self._looked_at = sides[1] if soft.share == 1 else _highest(values, sides[1], soft.share)
        self._there = counted(most, torch.int64, device) < positives
        before, level = (torch.searchsorted(down, up, right=right) for right in (False, True))
        self._ends = before, level
        above = (before + level) * listed((0.5, 0.0), wide_dtype(device), device)[:, None, None]
        now = path.of_lists(up, down, (above, level), self._there, positives, negatives, **parameters)
        self._above = above[0]
        shares, means, self.total = lists.means(now, missing=path.missing)
        self.now, self.ideal = means.unbind()
        above = torch.where(self._there, self._above, filled(torch.inf, 1, self._above.dtype, device))
        depth = depths[1] if soft.share == 1 else torch.where(self._looked_at, depths[1], below[1])
        up, depth = up.to(dtype), depth.to(dtype)
        found = [self._linearised(some, up, depth, above, shares) for some in self._plan.parts(len(values))]
        slopes, gradients, excess = zip(*found, strict=True)
        self._slopes, self.gradient, self.excess = joined(slopes), joined(gradients), total(excess)
        self.informs = self._slopes.any()

    def _linearised(
        self, some: slice, up: Tensor, depth: Tensor, above: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes ``(l, P)``, the gradient ``(l, M)`` and the excess of some of the lists."""
        pairs = self._plan.pairs(up[some], depth[some])
        surely = self._plan.pairs(up[some] - START, depth[some]) if self._soft.leak else None
        reach = self._soft.width(pairs.near(_BUMP)).clamp(min=1)
        positives, negatives = self._counts[:, some].unbind()
        slopes = self._path.slopes(above[some], reach, positives, negatives, **self._parameters)
        # of places without a positive they are infinite or NaN, as their distances from all others are
        slopes = torch.mul(shares[some, None], slopes, out=torch.empty_like(up[some])).nan_to_num_(0, 0, 0)
        pull, near = pulled(pairs, surely, slopes, self._soft.kernel)
        nothing = filled(0.0, 1, up.dtype, up.device)
        gradient = pull.scatter_add_(1, self._place[some], torch.addcmul(nothing, slopes, near, value=-1))
        if not self._soft.valued:
            return slopes, gradient, nothing[0]
        return slopes, gradient, (slopes * (pairs.near(self._soft.kernel) - self._above[some])).nansum()

    @property
    def worst(self) -> Tensor:
        """0-d: the metric where all negatives stand above all positives."""
        found = self._path.worst_of_lists(self._there, *self._counts, **self._parameters)
        return self._lists.means(found[None], missing=self._path.missing)[1][0]

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether a positive ties with a negative."""
        return ((self._ends[0] != self._ends[1]) & self._there).any()

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


def _highest(values: Tensor, of: Tensor, share: float) -> Tensor:
    """Which of some items are among the highest of them, in all lists."""
    highest = values[of]
    return of & (values >= highest.topk(max(1, round(share * len(highest)))).values[-1:])
