"""Metrics of ranked lists: each query by itself, and the mean over queries.

A query is a group of items with one number in ``groups``; without groups, each row of ``(N, C)`` scores is one query
(with ``(N,)`` class targets its one relevant item is the target), and ``(N,)`` scores are one query altogether. Items
with a target above 0 are relevant. ``sample_weight`` weighs queries: the mean over them is a weighted one.

A query without anything relevant counts as 0, as in torchmetrics' retrieval metrics by default and in scikit-learn's
``ndcg_score``. Among equal scores the irrelevant come first, so a model that scores everything alike earns nothing
from the order of the data, which is what decides in torchmetrics; ``ndcg`` and ``map`` treat ties as scikit-learn
does: the first averages over the orders, the second gives equal scores one threshold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.families import counts
from metricgrad.metrics.families.queries import Queries, as_gains, queries, weights_of_queries
from metricgrad.metrics.of_counts import MeanOverPositives
from metricgrad.metrics.of_ranks import DiscountedGain
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

_LISTS = {"within": "auto", "two_d": "row"}
_STRUCTURE = Structure("positives_over_negatives", "all", _LISTS)
_GROUPS = ("groups", "sample_weight")
_of_queries = functools.partial(register, reads="scores", structure=_STRUCTURE, context=_GROUPS, targets="gains")


def check_k(name: str, k: object) -> int:
    """A whole number from 1 up, or an error that names the metric."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise MetricgradError(f"{name}: k={k!r}; expected a whole number from 1 up")
    return k


def _mean_over_queries(
    score: Callable[[Queries], Tensor], read: Tensor, gains: Tensor, groups: Tensor | None, weight: Tensor | None
) -> Tensor:
    each = score(queries(read, gains, groups))
    if weight is None:
        return each.mean(-1)
    of_query = wide(weight) if read.ndim == 3 else weights_of_queries(weight, groups)
    return (each * of_query).sum(-1) / of_query.sum()


@_of_queries("precision_at_k", fast_path=MeanOverPositives(counts.precision_at_k, "negatives_first", missing="zero"))
def precision_at_k(
    read: Tensor, targets: Tensor, *, k: int = 10, groups: Tensor | None = None, sample_weight: Tensor | None = None
) -> Tensor:
    """Relevant items among the first k of each query, over k, also where a query has fewer items than k."""
    check_k("precision_at_k", k)
    return _mean_over_queries(
        lambda q: q.total(q.relevant * (q.rank < k)) / k, read, as_gains(read, targets), groups, sample_weight
    )


@_of_queries("recall_at_k", fast_path=MeanOverPositives(counts.recall_at_k, "negatives_first", missing="zero"))
def recall_at_k(
    read: Tensor, targets: Tensor, *, k: int = 10, groups: Tensor | None = None, sample_weight: Tensor | None = None
) -> Tensor:
    """Share of each query's relevant items that are among its first k."""
    check_k("recall_at_k", k)

    def score(q: Queries) -> Tensor:
        return q.total(q.relevant * (q.rank < k)) / q.total(q.relevant).clamp(min=1)

    return _mean_over_queries(score, read, as_gains(read, targets), groups, sample_weight)


@_of_queries("hit_rate", fast_path=MeanOverPositives(counts.hit_rate, "negatives_first", missing="zero"))
def hit_rate(
    read: Tensor, targets: Tensor, *, k: int = 10, groups: Tensor | None = None, sample_weight: Tensor | None = None
) -> Tensor:
    """Share of queries with something relevant among their first k items."""
    check_k("hit_rate", k)
    return _mean_over_queries(
        lambda q: q.largest(q.relevant * (q.rank < k)), read, as_gains(read, targets), groups, sample_weight
    )


@_of_queries("mrr", fast_path=MeanOverPositives(counts.mrr, "negatives_first", missing="zero"))
def mrr(read: Tensor, targets: Tensor, *, groups: Tensor | None = None, sample_weight: Tensor | None = None) -> Tensor:
    """One over the rank of each query's first relevant item, averaged over queries."""
    return _mean_over_queries(
        lambda q: q.largest(q.relevant / (q.rank + 1)), read, as_gains(read, targets), groups, sample_weight
    )


@_of_queries("map", fast_path=MeanOverPositives(counts.average_precision, "together", missing="zero"))
def mean_average_precision(
    read: Tensor, targets: Tensor, *, groups: Tensor | None = None, sample_weight: Tensor | None = None
) -> Tensor:
    """Average precision of each query, averaged over queries."""

    def score(q: Queries) -> Tensor:
        found = q.relevant.cumsum(-1)
        # where the item's block of equal scores ends, and what earlier queries had found
        end = (torch.arange(len(q.rank), device=q.rank.device) - q.rank) + q.last
        relevant = q.total(q.relevant)
        before = (relevant.cumsum(-1) - relevant).gather(1, q.query.expand(end.shape))
        precision = (found.gather(1, end) - before) / (q.last + 1)
        return q.total(q.relevant * precision) / relevant.clamp(min=1)

    return _mean_over_queries(score, read, as_gains(read, targets), groups, sample_weight)


def _sized(gains: Tensor, groups: Tensor | None, exponential: bool) -> Tensor:
    """Gains as shares of the largest of their query, of which the ratio is the same and nothing overflows."""
    if not gains.numel():
        return gains
    if gains.ndim == 2:
        most = gains.amax(1, keepdim=True)
    elif groups is None:
        most = gains.amax()
    else:
        query = groups.unique(return_inverse=True)[1].to(gains.device)
        most = gains.new_zeros(int(query.max()) + 1).scatter_reduce(0, query, gains, "amax")[query]
    if exponential:
        return torch.exp2(gains - most) - torch.exp2(-most)
    return gains / torch.where(most > 0, most, 1)


@register(
    "ndcg",
    reads="scores",
    structure=Structure("ranking", "all", _LISTS),
    context=_GROUPS,
    targets="gains",
    fast_path=MeanOverPositives(counts.ndcg, "mean_of_ranks", by_gain=DiscountedGain(), missing="zero"),
)
def ndcg(
    read: Tensor,
    targets: Tensor,
    *,
    k: int | None = None,
    exponential: bool = False,
    groups: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Discounted gain of the first k items of each query (all by default), over the best it could be.

    The gain is the target, as in scikit-learn and torchmetrics, or ``2 ** target - 1`` with ``exponential``; the
    discount of rank r, from 0, is ``1 / log2(r + 2)``. Items of equal scores share their mean discount.
    """
    if k is not None:
        check_k("ndcg", k)
    gains = _sized(as_gains(read, targets), groups, exponential)
    ideal = queries(gains[None], gains, groups)

    def score(q: Queries) -> Tensor:
        rank = torch.arange(len(q.rank) + 1, device=q.rank.device)
        discount = wide(1 / torch.log2(wide(rank.float()) + 2)) * (rank < (len(rank) if k is None else k))
        upto = torch.cat([discount.new_zeros(1), discount.cumsum(0)])
        shared = (upto[q.last + 1] - upto[q.first]) / (q.last + 1 - q.first)
        best = ideal.total(ideal.gain * discount[ideal.rank])
        return torch.where(best > 0, q.total(q.gain * shared) / torch.where(best > 0, best, 1), 0)

    return _mean_over_queries(score, read, gains, groups, sample_weight)
