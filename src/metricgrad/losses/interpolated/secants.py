r"""What negatives above a positive cost a metric of one ranked list, times how softly they stand there.

With :math:`a_i` negatives above positive i, and :math:`w_i = 4 \sum_j \sigma'(t_j - s_i)` of them within the sigmoid's
reach,

.. math:: L = \sum_i \Delta_i \sum_j \sigma(t_j - s_i), \qquad \Delta_i = \frac{g(a_i - w_i) - g(a_i + w_i)}{2 w_i}

A secant as wide as the sigmoid sees the steps of a metric (the k-th place, the next positive) as far away as a soft
count does. :math:`\Delta` is held still where L is differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.functional.kernels import SIGMOID
from metricgrad.functional.pair_sums import Pairs, pair_sum
from metricgrad.losses.interpolated.twin import Twin
from metricgrad.metrics.decoding import wide
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_counts import OfCounts

_STEP = SIGMOID.derivative()
_RANGE = 8.0
"""Of pseudo-scores, within which no probability saturates."""


class Secants:
    """The loss of one list, linearised where it stands.

    Args:
        twin: of a metric of how many negatives stand above each positive.
        scores: ``(N,)`` detached.
        positive: ``(P,)`` indices.
        negative: likewise, of all others.
        calls: of a metric that is not known as a function of such counts; it is called on scores that have them.

    Attributes:
        up: ``(P,)`` scores of positives, in descending order.
        down: those of negatives, in ascending order.
        slopes: ``(P,)`` what the metric loses by a negative that passes each positive.
    """

    def __init__(self, twin: Twin, scores: Tensor, positive: Tensor, negative: Tensor, calls: int) -> None:
        self.up, order = scores[positive].sort(descending=True)
        self.down, reverse = scores[negative].sort()
        self._positive, self._negative = positive[order], negative[reverse]
        self._pairs = Pairs(self.up, self.down, _STEP)
        self._near = self._pairs.over_y()
        self.slopes = self._slopes(twin, calls)

    def _slopes(self, twin: Twin, calls: int) -> Tensor:
        n, metric, path = self.down.shape[0], twin.metric, twin.path
        beaten, tied = (torch.searchsorted(self.down, self.up, right=right) for right in (False, True))
        above, reach = n - (beaten + tied).to(self._near.dtype) / 2, (4 * self._near).clamp(min=1)
        moved = torch.stack([above - reach, above + reach]).clamp(min=0, max=n)
        if isinstance(path, OfCounts):
            return _slope(metric, path.changes(above, moved, n, **twin.options), moved)
        return _by_calls(metric, above, moved, n, calls)

    def gradient(self) -> Tensor:
        """Of the loss in all scores, ``(N,)``."""
        out = self.slopes.new_empty(len(self.up) + len(self.down))
        out[self._positive] = -self.slopes * self._near
        out[self._negative] = self._pairs.over_x(self.slopes)
        return out

    def loss(self, scores: Tensor) -> Tensor:
        """The same as a function of ``(N,)`` scores."""
        return (self.slopes * pair_sum(-scores[self._positive], -scores[self._negative])).sum()


def in_order(scores: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of positives, which are indices, in descending order, and of negatives in ascending order."""
    return scores[positive].sort(descending=True).values, scores[negative].sort().values


def _slope(metric: Metric, values: Tensor, moved: Tensor) -> Tensor:
    """``(S,)``: of ``(2, S)`` values after two moves, by how far apart these are."""
    better, worse = values if metric.higher_is_better else values.flip(0)
    return torch.nan_to_num(better - worse) / (moved[1] - moved[0]).clamp(min=1)


def _by_calls(metric: Metric, above: Tensor, moved: Tensor, n: int, calls: int) -> Tensor:
    """``(P,)`` slopes found by calls of the metric at some of the positives, and linear between them."""
    index = _knots(len(above), max(2, calls // 2), above.device)
    sets = above.expand(2 * len(index), -1).scatter(1, index.repeat(2)[:, None], moved[:, index].reshape(-1, 1))
    sets = sets.sort(1).values
    negatives = torch.arange(n, device=above.device).expand(len(sets), -1)
    scores = torch.cat([negatives + 0.5, sets.round()], 1) * (-_RANGE / (n + 1)) + _RANGE / 2
    targets = torch.arange(scores.shape[1], device=above.device) >= n
    values = wide(metric.over(scores, targets.long())).reshape(2, -1)
    return _between(_slope(metric, values, moved[:, index]), index, len(above))


def _knots(count: int, most: int, device: torch.device) -> Tensor:
    """``(S,)`` places whose slopes are found: all, or ever fewer from the first on."""
    if count <= most:
        return torch.arange(count, device=device)
    places = torch.logspace(0, 1, most, base=count, dtype=torch.float64, device=device) - 1
    dense = torch.arange(most // 2, device=device)
    return torch.cat([dense, places.round().long().clamp(max=count - 1)]).unique()


def _between(slopes: Tensor, index: Tensor, count: int) -> Tensor:
    """``(count,)`` slopes, linear between the places they were found at."""
    if len(index) == count:
        return slopes
    place = torch.arange(count, device=slopes.device)
    right = torch.searchsorted(index, place).clamp(1, len(index) - 1)
    left = right - 1
    share = (place - index[left]).double() / (index[right] - index[left])
    return torch.lerp(slopes[left], slopes[right], share)
