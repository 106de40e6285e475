r"""What negatives above a positive cost a mean over many ranked lists, all lists at once.

The loss of :mod:`metricgrad.losses.interpolated.lists.secants` for each list l by itself, weighed by its share
:math:`v_l` of the mean:

.. math:: L = \sum_l v_l \sum_i \Delta_{li} \sum_j k(t_{lj} - s_{li})
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import filled, listed
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.lists.pairs import joined, pairs_of, parts_of
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.precision import wide

_BUMP = SIGMOID.derivative()


class ListSecants:
    """The loss of all lists, linearised where they stand.

    Args:
        lists: what is ranked.
        values: ``(L, M)`` of them, in units of the softness and without a gradient.
        path: of the metric of one list, of which higher is better.
        parameters: the metric's own.
        dtype: that pairs are summed in.
        width: of the secant, in negatives, from 4 times how many are within the sigmoid's reach.
        kernel: k, which rises like a sigmoid.
        share: the share of the negatives of all lists that is looked at, the highest ones.
        leak: whether pairs that are surely wrong keep the slope of :mod:`metricgrad.functional.leak`.

    Attributes:
        gradient: ``(L, M)``: of the loss in all values.
        informs: 0-d boolean, whether any move changes the metric.
        now: 0-d, the metric; NaN where no list has a value.
        ideal: 0-d, likewise where no negative stands above a positive.
        worst: 0-d, where all do.
        total: 0-d, what the lists that have a value weigh together.
    """

    def __init__(
        self,
        lists: RankedLists,
        values: Tensor,
        path: OfCounts,
        parameters: dict[str, Any],
        dtype: torch.dtype,
        *,
        width: Callable[[Tensor], Tensor] = lambda near: near,
        kernel: Kernel = SIGMOID,
        share: float = 1.0,
        leak: bool = False,
    ) -> None:
        self._kernel, self._leak = kernel, leak
        positive, self._negative = lists.positive(), lists.negative()
        positives, negatives = (side.sum(1, keepdim=True) for side in (positive, self._negative))
        self._most = most = max(1, int(positives.amax()))
        self._parts = len(values), most * values.shape[1]
        depth = -values
        nowhere = filled(torch.inf, 1, depth.dtype, depth.device)
        up, place = torch.where(positive, depth, nowhere).sort(1)
        up, self._place = up[:, :most].contiguous(), place[:, :most]
        down = torch.where(self._negative, depth, nowhere).sort(1).values.contiguous()
        self._looked_at = self._negative
        if share < 1:
            highest = values[self._negative]
            least = highest.topk(max(1, round(share * len(highest)))).values[-1:]
            self._looked_at = self._negative & (values >= least)
        now = path.of_lists(up, down, positives, negatives, **parameters)
        counts, means, self.total = lists.means(now, missing=path.missing)
        self.now, self.ideal, self.worst = means.unbind()
        before, level = (torch.searchsorted(down, up, right=right) for right in (False, True))
        self._there = up < torch.inf
        self._ends = before, level
        above = (before + level) * listed((0.5,), now.dtype, up.device)
        self._above = above = torch.where(self._there, above, filled(torch.inf, 1, above.dtype, above.device))
        up, depth = up.to(dtype), depth.to(dtype)
        nothing, slopes, gradients = filled(0.0, 1, above.dtype, above.device), [], []
        for some in parts_of(*self._parts, values.device):
            pairs = pairs_of(up[some], depth[some], self._looked_at[some])
            reach = width(4 * wide(pairs.near(_BUMP)))
            own = path.slopes(above[some], reach.clamp(min=1), positives[some], negatives[some], **parameters)
            own = torch.where(self._there[some], counts[some, None] * own, nothing).nan_to_num()
            pull, push = pairs.weighted(own, kernel.derivative())
            if leak:
                surely = pairs_of(up[some] - START, depth[some], self._looked_at[some]).weighted(LEAK * own, SIGMOID)
                pull, push = pull + surely[0], push + surely[1]
            gradients.append(pull.scatter_add(1, self._place[some], -push))
            slopes.append(own)
        self._slopes, self.gradient = joined(slopes), joined(gradients)
        self.informs = self._slopes.any()

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether a positive ties with a negative."""
        return ((self._ends[0] != self._ends[1]) & self._there).any()

    def excess(self, values: Tensor) -> Tensor:
        """0-d: the loss, less what it is of hard counts."""
        return self.loss(values) - (self._slopes * self._above.masked_fill(~self._there, 0)).sum()

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found = []
        for some in parts_of(*self._parts, values.device):
            own, place = values[some], self._place[some]
            up, slopes = -own.gather(1, place), self._slopes[some].to(own)
            found.append((slopes * pairs_of(up, -own, self._looked_at[some]).near(self._kernel)).sum())
            if self._leak:
                surely = LEAK * (slopes * pairs_of(up - START, -own, self._looked_at[some]).near(SOFTPLUS)).sum()
                found.append(surely - surely.detach())
        return torch.stack(found).sum()
