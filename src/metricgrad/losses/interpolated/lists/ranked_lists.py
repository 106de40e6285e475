"""The lists of a batch side by side, each as long as the longest: columns, rows, or the items of each query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.constants import counted
from metricgrad.metrics.context import PARTS
from metricgrad.metrics.families.queries import weights_of_queries
from metricgrad.metrics.fast_paths import Missing
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.metrics.of_ranks import OfRanks
from metricgrad.precision import wide
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.ranking.lists import ranked_by
from metricgrad.refactoring.ranking.rankings import Order

_PLACES = 2**24
"""Of all lists, that are held at most."""


_QUERIES = {"groups", "sample_weight"}


@dataclass(frozen=True)
class RankedLists:
    """L lists of M places, some of which may be empty.

    Attributes:
        of: ``(L, M)`` values that items are ranked by, as a function of the scores; in empty places any.
        relevance: ``(L, M)`` of targets.
        empty: ``(L, M)`` booleans, or None where no place is.
        weight: ``(L,)`` float64 of each list in the mean, or None for ones.
        hard: of such values, those that the metric takes for equal made equal; None where it takes them as they are.
    """

    of: Callable[[Tensor], Tensor]
    relevance: Tensor
    empty: Tensor | None = None
    weight: Tensor | None = None
    hard: Callable[[Tensor], Tensor] | None = None

    def means(self, each: Tensor, missing: Missing) -> tuple[Tensor, Tensor]:
        """``(L,)`` what each list counts in the mean, NaN where that is, and ``(K,)`` means.

        Args:
            each: ``(K, L)`` values, which the same lists lack.
            missing: see :data:`metricgrad.metrics.fast_paths.Missing`.
        """
        share = (each[0] == each[0]).to(each) if missing == "skipped" else torch.ones_like(each[0])
        share = share if self.weight is None else share * self.weight
        share = share / share.sum()
        if missing == "nan":
            return share + 0 * each[0].sum(), each @ share
        return share, each.nan_to_num() @ share

    def positive(self) -> Tensor:
        """``(L, M)`` booleans: which items are relevant."""
        found = self.relevance > 0
        return found if self.empty is None else found & ~self.empty

    def negative(self) -> Tensor:
        """``(L, M)`` booleans: which are not."""
        found = self.relevance <= 0
        return found if self.empty is None else found & ~self.empty


def ranked_lists(batch: Batch, order: Refactoring, path: OfCounts | OfRanks) -> RankedLists | None:
    """The lists of a batch; None where more than queries and their weights come with it, or lists are too uneven.

    Args:
        batch: with no context but queries and weights of these, or the columns or rows of single entries.
        order: what makes a list.
        path: of the metric of one list, which says whether lists may differ in length and targets be class numbers.
    """
    if not isinstance(order, Order) or batch.frame is not None:
        return None
    of_values = isinstance(path, OfRanks) and path.of_values
    if of_values and batch.scores.shape != batch.targets.shape:
        return None
    if batch.context.keys() not in ({PARTS}, _QUERIES & batch.context.keys()):
        return None
    weight = batch.context.get("sample_weight")
    if order.within == "all" and batch.scores.shape == batch.targets.shape and not batch.context:
        return RankedLists(lambda scores: scores.reshape(1, -1), batch.targets.reshape(1, -1))
    if order.within in ("column", "row") and batch.scores.ndim == 2 and "groups" not in batch.context:
        columns = order.within == "column"
        if columns and weight is not None:
            return None  # of items, not of lists
        return RankedLists(
            lambda scores: _turned(ranked_by(scores, True) if order.odds else scores, columns),
            _turned(_relevance(batch), columns),
            weight=None if weight is None else wide(weight),
        )
    if of_values or order.within != "group" or batch.scores.ndim > 1 or batch.groups is None:
        return None
    query, sizes = batch.groups.unique(return_inverse=True, return_counts=True)[1:]
    longest, n = int(sizes.max()), len(query)
    if len(sizes) * longest > _PLACES:
        return None
    item = query.argsort(stable=True)
    place = counted(n, torch.int64, query.device) - (sizes.cumsum(0) - sizes)[query[item]]
    index = item.new_full((len(sizes), longest), n)
    index[query[item], place] = item
    padded = torch.nn.functional.pad(batch.targets, (0, 1))
    return RankedLists(
        lambda scores: torch.nn.functional.pad(scores, (0, 1))[index],
        padded[index],
        index == n,
        None if weight is None else weights_of_queries(weight, batch.groups),
    )


def _turned(values: Tensor, columns: bool) -> Tensor:
    return values.mT if columns else values


def _relevance(batch: Batch) -> Tensor:
    """``(N, C)``: of class numbers, 1 for the class itself."""
    if batch.targets.ndim > 1:
        return batch.targets
    classes = counted(batch.scores.shape[1], torch.int64, batch.targets.device)
    return (batch.targets[:, None] == classes).byte()
