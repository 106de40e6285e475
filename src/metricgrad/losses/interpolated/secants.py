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
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.metrics.fast_paths import OfCounts
from metricgrad.metrics.metric import Metric

_STEP = SIGMOID.derivative()
_COUNTS = 2**18
"""Counts that are held at a time."""
_RANGE = 8.0
"""Of pseudo-scores, within which no probability saturates."""


class Secants:
    """The loss of one list, linearised where it stands.

    Args:
        metric: of how many negatives stand above each positive.
        scores: ``(N,)`` detached.
        positive: ``(N,)`` booleans.
        calls: of a metric that is not known as a function of such counts; it is called on scores that have them.
    """

    @torch.no_grad()
    def __init__(self, metric: Metric, scores: Tensor, positive: Tensor, calls: int) -> None:
        self._positive, self._negative = positive.nonzero()[:, 0], (~positive).nonzero()[:, 0]
        self._up, self._down = scores[self._positive], scores[self._negative]
        self._near = pair_sum(self._up, self._down, kernel=_STEP)
        self.slopes = self._slopes(metric, calls)

    def _slopes(self, metric: Metric, calls: int) -> Tensor:
        """``(P,)``: what the metric loses by a negative that passes each positive."""
        n = len(self._negative)
        ascending = self._down.sort().values
        beaten, tied = (torch.searchsorted(ascending, self._up, right=right) for right in (False, True))
        above, order = (n - (beaten + tied).double() / 2).sort()
        reach = (4 * self._near[order]).clamp(min=1)
        sets = _COUNTS // max(1, len(above)) if isinstance(metric.fast_path, OfCounts) else calls
        index = _knots(len(above), max(2, sets // 2), above.device)
        up, down = (above - reach).clamp(min=0)[index], (above + reach).clamp(max=n)[index]
        moved = above.expand(2 * len(index), -1).scatter(1, index.repeat(2)[:, None], torch.cat([up, down])[:, None])
        better, worse = _values(metric, moved.sort(1).values, n).chunk(2)
        sign = 1.0 if metric.higher_is_better else -1.0
        slopes = sign * torch.nan_to_num(better - worse) / (down - up).clamp(min=1)
        return torch.empty_like(above).scatter(0, order, _between(slopes, index, len(above)))

    def gradient(self) -> Tensor:
        """Of the loss in all scores, ``(N,)``."""
        slopes = self.slopes.to(self._up.dtype)
        out = torch.zeros(len(self._up) + len(self._down), dtype=self._up.dtype, device=self._up.device)
        out[self._positive] = -slopes * self._near
        out[self._negative] = pair_sum(self._down, self._up, slopes, _STEP)
        return out

    def loss(self, scores: Tensor) -> Tensor:
        """The same as a function of ``(N,)`` scores."""
        return (self.slopes * pair_sum(-scores[self._positive], -scores[self._negative])).sum()


def _values(metric: Metric, above: Tensor, n: int) -> Tensor:
    """``(T,)`` values of ``(T, P)`` ascending counts."""
    if isinstance(metric.fast_path, OfCounts):
        return metric.fast_path.fn(above, n, **metric.fixed)
    negatives = torch.arange(n, device=above.device).expand(len(above), -1)
    scores = torch.cat([negatives + 0.5, above.round()], 1) * (-_RANGE / (n + 1)) + _RANGE / 2
    targets = torch.cat([torch.zeros(n, dtype=torch.long), torch.ones(above.shape[1], dtype=torch.long)])
    return metric.over(scores, targets.to(above.device)).double()


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
