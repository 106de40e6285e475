"""Binary ranking metrics by the place of each positive: what one adds, or what holds of it.

``place`` counts positives from 1 at the top, ``above`` the negatives above, so that a positive has rank
``place + above``. See :mod:`metricgrad.metrics.of_counts`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from metricgrad.functional.constants import counted
from metricgrad.metrics.of_counts import Count
from metricgrad.precision import wide


def average_precision(place: Tensor, above: Tensor, positives: Count, negatives: Count) -> Tensor:
    """Precision at the positive."""
    return place / (place + above)


def auroc(place: Tensor, above: Tensor, positives: Count, negatives: Count) -> Tensor:
    """Share of negatives below it."""
    return 1.0 - above / negatives


def recall_at_precision(
    place: Tensor, above: Tensor, positives: Count, negatives: Count, *, precision: float = 0.9
) -> Tensor:
    """Whether a threshold at it has the precision."""
    return place / (place + above) >= precision


def precision_at_k(place: Tensor, above: Tensor, positives: Count, negatives: Count, *, k: int = 10) -> Tensor:
    """Whether it is among the first k, in shares of k."""
    return wide(place + above <= k) * (positives / k)


def recall_at_k(place: Tensor, above: Tensor, positives: Count, negatives: Count, *, k: int = 10) -> Tensor:
    """Whether it is among the first k."""
    return wide(place + above <= k)


def precision_to_r(place: Tensor, above: Tensor, positives: Count, negatives: Count) -> Tensor:
    """Precision at the positive, where it is among as many as there are positives."""
    rank = place + above
    return place / rank * (rank <= positives)


def hit_rate(place: Tensor, above: Tensor, positives: Count, negatives: Count, *, k: int = 10) -> Tensor:
    """Whether it is the first positive, and among the first k."""
    # place 1 and a rank up to k in one comparison: at place 2 it would take a count below 0
    return wide(torch.add(above, place, alpha=k) <= 2 * k - 1) * positives


def first_hit(place: Tensor, above: Tensor, positives: Count, negatives: Count, *, k: int = 1) -> Tensor:
    """The same of the nearest one alone, unless k says otherwise."""
    return hit_rate(place, above, positives, negatives, k=k)


def mrr(place: Tensor, above: Tensor, positives: Count, negatives: Count) -> Tensor:
    """One over the rank of the first positive."""
    return positives / (place + above) * (place == 1)


def ndcg(
    place: Tensor, above: Tensor, positives: Count, negatives: Count, *, k: int | None = None, exponential: bool = False
) -> Tensor:
    """Its discount, in shares of the best there are; of gains of 0 and 1 both kinds of gains say the same."""
    rank = place + above
    if isinstance(positives, int):
        best: float | Tensor = _best(min(positives, k or positives))
    else:  # no list has more positives than there are places
        upto = torch.log2(counted(place.shape[-1] + 2, rank.dtype, rank.device)[2:]).reciprocal().cumsum(0)
        best = upto[positives.clamp(min=1, max=k) - 1]
    gain = positives * math.log(2) / best / torch.log1p(rank)
    return gain if k is None else gain * (rank <= k)


@functools.lru_cache(1024)
def _best(count: int) -> float:
    """The sum of the first discounts."""
    return float(torch.log2(torch.arange(2, count + 2, dtype=torch.float64)).reciprocal().sum())
