r"""What negatives above a positive cost a metric of one ranked list, times how softly they stand there.

With :math:`a_i` negatives above positive i, and :math:`w_i = 4 \sum_j \sigma'(t_j - s_i)` of them within the sigmoid's
reach,

.. math:: L = \sum_i \Delta_i \sum_j \sigma(t_j - s_i), \qquad \Delta_i = \frac{g(a_i - w_i) - g(a_i + w_i)}{2 w_i}

A secant as wide as the sigmoid sees the steps of a metric (the k-th place, the next positive) as far away as a soft
count does. :math:`\Delta` is held still where L is differentiated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.functional.constants import filled, listed
from metricgrad.functional.kernels import SIGMOID
from metricgrad.functional.pair_sums import Pairs, pair_sum
from metricgrad.losses.interpolated.twin import Twin
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.precision import wide, wide_dtype

_STEP = SIGMOID.derivative()
_RANGE = 8.0
"""Of pseudo-scores, within which no probability saturates."""


class Sides(NamedTuple):
    """The positives and the negatives of one list from the top down, by depth: a score turned round.

    Attributes:
        up: ``(P,)`` depths of the positives, ascending.
        down: ``(N,)`` those of the negatives.
        positive: ``(P,)`` where they stand in the list.
        negative: ``(N,)`` likewise.
        last: ``(p,)`` and ``(n,)``, as ``up`` and ``down``, of the end of the list alone.
    """

    up: Tensor
    down: Tensor
    positive: Tensor
    negative: Tensor
    last: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, scores: Tensor, positive: Tensor, counts: tuple[int, int], last: tuple[int, int]) -> Sides:
        """Sort them.

        Args:
            scores: ``(R,)``.
            positive: ``(R,)`` booleans.
            counts: how many positives and negatives there are.
            last: how many of each the end of the list has.
        """
        order, (p, n) = positive.view(torch.uint8).argsort(descending=True, stable=True), counts
        depth = scores.index_select(0, order).neg_()
        (up, first), (down, second) = depth[:p].sort(), depth[p:].sort()
        ends = up, down
        if counts != last:  # the last of each side are those of the end
            ends = depth[p - last[0] : p].sort().values, depth[p + n - last[1] :].sort().values
        return cls(up, down, order[:p].index_select(0, first), order[p:].index_select(0, second), ends)


class Secants:
    """The loss of one list, linearised where it stands.

    Args:
        twin: of a metric of how many negatives stand above each positive.
        sides: of a list without a gradient.
        calls: of a metric that is not known as a function of such counts; it is called on scores that have them.

    Attributes:
        slopes: ``(P,)`` what the metric loses by a negative that passes each positive.
    """

    def __init__(self, twin: Twin, sides: Sides, calls: int) -> None:
        self._sides = sides
        self._pairs = Pairs(sides.up, sides.down, _STEP)
        self._near = self._pairs.over_y()
        self.slopes = self._slopes(twin, calls)

    def _slopes(self, twin: Twin, calls: int) -> Tensor:
        up, down = self._sides.up, self._sides.down
        n, metric, path = down.shape[0], twin.metric, twin.path
        before, level = (torch.searchsorted(down, up, right=right) for right in (False, True))
        half = listed((0.5,), wide_dtype(up.device), up.device)[0]
        above, reach = (before + level) * half, (4 * self._near).clamp_(min=1)
        if isinstance(path, OfCounts):
            found = path.slopes(above, reach, up.shape[0], n, self._near.dtype, **twin.options)
            return found if metric.higher_is_better else -found
        return _by_calls(metric, above, reach, n, calls)

    def gradient(self) -> Tensor:
        """Of the loss in all scores, ``(N,)``."""
        slopes = self.slopes.to(self._near)
        out = slopes.new_empty(sum(side.shape[0] for side in self._sides[:2]))
        zero = filled(0.0, 1, slopes.dtype, slopes.device)
        out.index_copy_(0, self._sides.positive, torch.addcmul(zero, slopes, self._near, value=-1))
        return out.index_copy_(0, self._sides.negative, self._pairs.over_x(slopes))

    def loss(self, scores: Tensor) -> Tensor:
        """The same as a function of ``(N,)`` scores."""
        depths = -scores
        return (self.slopes * pair_sum(depths[self._sides.positive], depths[self._sides.negative])).sum()


def _slope(metric: Metric, values: Tensor, moved: Tensor) -> Tensor:
    """``(S,)``: of ``(2, S)`` values after two moves, by how far apart these are."""
    (less, more), (low, high) = values.unbind(), moved.unbind()
    rise = less - more if metric.higher_is_better else more - less
    return rise / (high - low).clamp_(min=1)


def _by_calls(metric: Metric, above: Tensor, reach: Tensor, n: int, calls: int) -> Tensor:
    """``(P,)`` slopes found by calls of the metric at some of the positives, and linear between them."""
    index = _knots(len(above), max(2, calls // 2), above.device)
    moved = torch.stack([above - reach, above + reach]).clamp_(0, n)
    sets = above.expand(2 * len(index), -1).scatter(1, index.repeat(2)[:, None], moved[:, index].reshape(-1, 1))
    sets = sets.sort(1).values
    negatives = torch.arange(n, device=above.device).expand(len(sets), -1)
    scores = torch.cat([negatives + 0.5, sets.round()], 1) * (-_RANGE / (n + 1)) + _RANGE / 2
    targets = torch.arange(scores.shape[1], device=above.device) >= n
    values = wide(metric.over(scores, targets.long())).reshape(2, -1)
    slopes = torch.nan_to_num(_slope(metric, values, moved[:, index]))
    return _between(slopes, index, len(above))


def _knots(count: int, most: int, device: torch.device) -> Tensor:
    """``(S,)`` places whose slopes are found: all, or ever fewer from the first on."""
    if count <= most:
        return torch.arange(count, device=device)
    places = torch.logspace(0, 1, most, base=count, dtype=wide_dtype(device), device=device) - 1
    dense = torch.arange(most // 2, device=device)
    return torch.cat([dense, places.round().long().clamp(max=count - 1)]).unique()


def _between(slopes: Tensor, index: Tensor, count: int) -> Tensor:
    """``(count,)`` slopes, linear between the places they were found at."""
    if len(index) == count:
        return slopes
    place = torch.arange(count, device=slopes.device)
    right = torch.searchsorted(index, place).clamp(1, len(index) - 1)
    left = right - 1
    share = wide(place - index[left]) / (index[right] - index[left])
    return torch.lerp(slopes[left], slopes[right], share)
