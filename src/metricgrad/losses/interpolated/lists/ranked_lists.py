"""The lists of a batch side by side: columns, rows, or the items of each query, those of like length together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled, listed
from metricgrad.metrics.context import PARTS
from metricgrad.metrics.decoding import log_odds
from metricgrad.metrics.families.queries import weights_of_queries
from metricgrad.metrics.fast_paths import Missing
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.metrics.of_pairs import OfLists
from metricgrad.precision import wide, wide_dtype
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.ranking.rankings import Order

_PLACES = 2**24
"""Of all lists, that are held at most."""

_SPARE = 4, 2**16
"""How many times the items, and how many more, there may be places in lists as long as the longest."""

_QUERIES = {"groups", "sample_weight"}


@dataclass(frozen=True)
class RankedLists:
    """L lists of M places, some of which may be empty.

    Attributes:
        of: ``(L, M)`` values that items are ranked by, as a function of the scores; in empty places any.
        relevance: ``(L, M)`` of targets; in empty places any.
        empty: ``(L, M)`` booleans, or None where no place is.
        weight: ``(L,)`` float64 of each list in the mean, or None for ones.
        mass: ``(L, M)`` float64 of each item within its list, 0 in empty places; None where all weigh the same.
        most: how many relevant items a list has at most; None where the host has not asked.
    """

    of: Callable[[Tensor], Tensor]
    relevance: Tensor
    empty: Tensor | None = None
    weight: Tensor | None = None
    mass: Tensor | None = None
    most: int | None = None

    def taken(self, values: Tensor) -> Tensor:
        """Values as the metric takes them; which are equal is all that may change."""
        return values

    def means(self, each: Tensor, missing: Missing) -> tuple[Tensor, Tensor, Tensor]:
        """``(L,)`` what each list counts in the mean, NaN where that is, ``(K,)`` means, and 0-d what all weigh.

        Args:
            each: ``(K, L)`` values, which the same lists lack.
            missing: see :data:`metricgrad.metrics.fast_paths.Missing`.
        """
        count, dtype, device = each.shape[1], each.dtype, each.device
        if self.weight is None and missing != "skipped":
            share, total = filled(1 / count, count, dtype, device), filled(count, 1, dtype, device)[0]
        else:
            there = each[0] == each[0] if missing == "skipped" else filled(1.0, count, dtype, device)
            share = there if self.weight is None else there * self.weight
            total = share.sum(dtype=dtype)
            share = share / total
        if missing == "nan":
            means = (each * share).sum(1)
            return torch.add(share, means[0], alpha=0), means, total
        # no product of matrices, of which equal rows need not have equal results
        return share, (each.nan_to_num() * share).sum(1), total

    def of_positives(self, there: Tensor, positives: Tensor, missing: Missing) -> tuple[Tensor, Tensor]:
        """What a list weighs in the mean over lists, for each positive that it has; and 0-d what all weigh together.

        Args:
            there: ``(L, P)`` booleans, of the positives of lists that have a value.
            positives: ``(L, 1)`` how many each has.
            missing: see :data:`metricgrad.metrics.fast_paths.Missing`.

        Returns:
            ``(L, P)`` float64, 0 where a list has no such positive; NaN where the mean is.
        """
        count, dtype, device, weight = len(there), wide_dtype(there.device), there.device, self.weight
        valid = there[:, 0]
        if missing == "skipped":
            total = (valid if weight is None else valid * weight).sum(dtype=dtype)
        else:
            total = filled(float(count), 1, dtype, device)[0] if weight is None else weight.sum(dtype=dtype)
        if missing == "nan":
            total = torch.where(valid.all(), total, filled(torch.nan, 1, dtype, device))
        each = positives.clamp(min=1) * total
        return (there if weight is None else there * weight[:, None]) / each, total

    def sides(self) -> Tensor:
        """``(2, L, M)`` booleans: which items are relevant, and which are not."""
        relevant = self.relevance if self.relevance.dtype == torch.bool else self.relevance > 0
        found = relevant == listed((1, 0), torch.bool, relevant.device)[:, None, None]
        return found if self.empty is None else found.masked_fill_(self.empty, False)


def ranked_lists(
    batch: Batch, order: Refactoring, path: OfLists, *, together: bool = False
) -> list[RankedLists] | None:
    """The lists of a batch; None where more than queries and their weights come with it, or where they take too much.

    Args:
        batch: with no context but queries and weights of these, or the columns or rows of single entries.
        order: what makes a list.
        path: of the metric of one list, which says whether lists may differ in length and targets be class numbers.
        together: whether all lie side by side, however uneven.
    """
    if not isinstance(order, Order) or batch.frame is not None:
        return None
    of_values = not isinstance(path, OfCounts) and path.of_values
    if of_values and batch.scores.shape != batch.targets.shape:
        return None
    weight, of_items = batch.context.get("sample_weight"), isinstance(path, OfCounts) and path.items_weigh
    besides = batch.context.keys() - {"sample_weight"} if of_items else batch.context.keys()
    if besides not in ({PARTS}, _QUERIES & besides):
        return None
    mass = _of_each_item(weight, batch.targets) if of_items and weight is not None else None
    if order.within == "all" and batch.scores.shape == batch.targets.shape and not besides:
        flat = None if mass is None else mass.reshape(1, -1)
        return [RankedLists(lambda scores: scores.reshape(1, -1), batch.targets.reshape(1, -1), mass=flat)]
    if order.within in ("column", "row") and batch.scores.ndim == 2 and "groups" not in batch.context:
        columns = order.within == "column"
        relevance = _relevance(batch)
        if mass is not None:
            mass, weight = _turned(_of_each_item(mass, relevance), columns), None
        elif columns and weight is not None:
            return None  # of items, not of lists
        if columns and isinstance(path, OfCounts) and path.by_support:
            weight = relevance.sum(0) if mass is None else (mass * relevance.mT).sum(1)
        found = RankedLists(
            lambda scores: _turned(log_odds(scores, elementwise=False) if order.odds else scores, columns),
            _turned(relevance, columns),
            weight=None if weight is None else wide(weight),
            mass=mass,
        )
        return [found]
    if of_values or order.within != "group" or batch.scores.ndim > 1 or batch.groups is None:
        return None
    return _of_queries(batch, batch.groups, mass, together=together)


def _of_queries(batch: Batch, groups: Tensor, mass: Tensor | None, *, together: bool) -> list[RankedLists] | None:
    n, device, (times, more) = len(groups), groups.device, _SPARE
    ordered, item = groups.sort(stable=True)
    query = torch.zeros_like(item)
    torch.cumsum(ordered[1:] != ordered[:-1], 0, out=query[1:])
    # of each query, of which there are at most n: where it begins, how many items it has, and how many relevant ones
    number = counted(n, torch.int64, device)
    first = torch.searchsorted(query, number)
    sizes = torch.searchsorted(query, number, right=True) - first
    relevant = torch.zeros_like(item).scatter_add_(0, query, (batch.targets[item] > 0).long())
    last, all_longest, most = torch.stack([query[-1], sizes.amax(), relevant.amax()]).tolist()
    count = last + 1
    first, sizes = first[:count], sizes[:count]
    uneven = count * all_longest > times * n + more and not together
    buckets = _by_length(sizes.tolist()) if uneven else {all_longest: None}
    if sum(longest * (count if rows is None else len(rows)) for longest, rows in buckets.items()) > _PLACES:
        return None
    weight = batch.context.get("sample_weight")
    weights = weights_of_queries(weight, groups) if weight is not None and mass is None else None

    def bucket(longest: int, which: list[int] | None) -> RankedLists:
        rows = slice(None) if which is None else torch.tensor(which, device=device)
        place = counted(longest, torch.int64, device)
        empty = place >= sizes[rows, None]
        index = item[(first[rows, None] + place).clamp_(max=n - 1)]  # in empty places of any item
        return RankedLists(
            lambda scores: scores[index],
            batch.targets[index],
            empty,
            None if weights is None else weights[rows],
            None if mass is None else mass[index].masked_fill_(empty, 0),
            min(most, longest),
        )

    return [bucket(*each) for each in buckets.items()]


def _by_length(lengths: list[int]) -> dict[int, list[int] | None]:
    """Which lists are at most four times as long as each other, by the longest of them."""
    alike: dict[int, list[int]] = {}
    for which, length in enumerate(lengths):
        alike.setdefault(length.bit_length() // 2, []).append(which)
    return {max(lengths[one] for one in rows): rows for rows in alike.values()}


def _of_each_item(weight: Tensor, items: Tensor) -> Tensor:
    """Float64 weights of rows as those of what is in them."""
    return wide(weight).reshape(*weight.shape, *(1,) * (items.ndim - weight.ndim)).expand(items.shape)


def _turned(values: Tensor, columns: bool) -> Tensor:
    return values.mT if columns else values


def _relevance(batch: Batch) -> Tensor:
    """``(N, C)``: of class numbers, whether it is the class itself."""
    if batch.targets.ndim > 1:
        return batch.targets
    return batch.targets[:, None] == counted(batch.scores.shape[1], torch.int64, batch.targets.device)
