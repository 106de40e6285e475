"""Scores seen as lists to be ranked: one list, one for each sample, row, column or query group."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.decoding import log_odds
from metricgrad.precision import wide
from metricgrad.refactoring.strata import samples_of

#: What makes a list: everything, one index of the first axis (an image), of all axes but the last, of the last axis, or
#: one query. Of scores with one axis for the classes more than the targets, a sample has all classes of its items.
Within = Literal["all", "sample", "row", "column", "group"]
WITHIN: tuple[Within, ...] = get_args(Within)


@dataclass(frozen=True)
class Lists:
    """The items of all lists, flat.

    Attributes:
        values: ``(M,)`` float64, what the items are ranked by, with graph.
        relevance: ``(M,)`` float; higher belongs nearer the top.
        group: ``(M,)`` list number of each item, 0 to ``count - 1``.
        count: the number of lists.
        longest: what no list has more items than.
        shape: the shape of the scores they came from.
        odds: whether values are log-odds of a softmax, one column each, rather than the scores themselves.
    """

    values: Tensor
    relevance: Tensor
    group: Tensor
    count: int
    longest: int
    shape: torch.Size
    odds: bool

    @functools.cached_property
    def sizes(self) -> Tensor:
        """``(count,)`` how many items each list has."""
        return self.counted(self.group)

    def counted(self, group: Tensor) -> Tensor:
        """``(count,)`` how many of some items each list has; for ``torch.bincount`` the host would wait."""
        return group.new_zeros(self.count).index_add_(0, group, torch.ones_like(group))


def ranked_by(scores: Tensor, odds: bool) -> Tensor:
    """What items are ranked by, in the shape of the scores: these, or their log-odds under a softmax over the row."""
    return wide(log_odds(scores, elementwise=False) if odds else scores)


def as_lists(scores: Tensor, targets: Tensor, within: Within, groups: Tensor | None, odds: bool = False) -> Lists:
    """See scores and targets as lists.

    Args:
        scores: ``(N,)``, ``(N, C)`` or any other shape.
        targets: relevance shaped like the scores, or class numbers for the last axis of the scores, of which the class
            itself is relevant.
        within: what makes a list. Of ``(N,)`` scores a sample is a query.
        groups: integers, shaped like leading axes of the targets, for ``within="group"``.
        odds: rank by the log-odds of each class under a softmax over the row, as a metric of probabilities does.
    """
    relevance = targets
    if scores.ndim == targets.ndim + 1:
        relevance = torch.nn.functional.one_hot(targets.long(), scores.shape[-1])
    values = ranked_by(scores, odds)
    entry = torch.arange(scores.numel(), device=scores.device)
    columns = max(1, scores.shape[-1]) if scores.ndim > 1 else 1
    longest = scores.numel()
    if within == "group" or (within == "sample" and scores.ndim == 1):
        if groups is None:
            raise MetricgradError("this metric ranks within query groups: pass groups=, an integer for each item")
        numbers, group, sizes = groups.unique(return_inverse=True, return_counts=True)
        count = len(numbers)
        longest = int(sizes.max()) * (scores.numel() // groups.numel()) if count else 0
        group = group.reshape(*group.shape, *(1,) * (scores.ndim - group.ndim)).expand(scores.shape)
    elif within == "sample":
        group, count, longest = samples_of(scores.shape, scores.device), scores.shape[0], scores.shape[1:].numel()
    elif within == "row":
        group, count, longest = entry // columns, scores.numel() // columns, columns
    elif within == "column":
        group, count, longest = entry % columns, columns, scores.numel() // columns
    else:
        group, count = torch.zeros_like(entry), 1
    flat = relevance.reshape(-1).to(values)
    return Lists(values.reshape(-1), flat, group.reshape(-1), count, longest, scores.shape, odds)
