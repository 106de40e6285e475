"""The threshold of one score a row at which a metric of yes or no is best on a memory, and what it is worth there."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from metricgrad.functional.constants import filled
from metricgrad.functional.sums_at import sums_at
from metricgrad.losses.interpolated.memory import Remembered
from metricgrad.metrics.class_utilities import Utilities
from metricgrad.metrics.families.confusion_tables import ConfusionTables, in_each_cell
from metricgrad.metrics.of_labels import OfTables

_MOST_CUTS = 63


def best_threshold(at: Remembered, count: int, values: Callable[[Tensor], Tensor], *, higher_is_better: bool) -> Tensor:
    """0-d: 0, or the one of some quantiles at which the metric is better.

    Args:
        at: scores.
        count: how many quantiles are tried.
        values: ``(T, R)`` labels to the metric's ``(T,)`` values.
        higher_is_better: of the metric.
    """
    cuts = _cuts(at, count)
    return cuts.index_select(0, _best(values((at.values > cuts[:, None]).long()), higher_is_better))[0]


def at_best_threshold(
    path: OfTables, at: Remembered, rows: int, *, given: bool, higher_is_better: bool
) -> tuple[Tensor, tuple[Tensor, Tensor], Utilities]:
    """The same threshold by the tables of all of them, cumulated over the rows between two.

    Args:
        path: what the metric is of tables.
        at: scores.
        rows: how many rows at the end are the batch.
        given: whether the batch came with weights: of its rows those of weight 0 are there too.
        higher_is_better: of the metric.

    Returns:
        The threshold; the metric of the batch at 0 and of ideal decisions, 0-d each; and utilities at that threshold,
        signed so that more is better, of the smoothed table.
    """
    cuts = _cuts(at, _MOST_CUTS)
    before, dtype, device = len(at.weight) - rows, at.weight.dtype, at.weight.device
    absent, own = filled(0.0, before, dtype, device), at.weight[before:]
    weight = _even(before, rows, dtype, device) if at.even else torch.cat([at.weight, absent, own])
    cells = _cells(at, cuts, weight)
    tables = ConfusionTables.of_cells(cells)
    if given:
        there = torch.cat([at.weight > 0, absent, torch.ones_like(own)])
        tables = tables.seen_where(_cells(at, cuts, there))
    values = path.values(tables)
    best = _best(values[:-2], higher_is_better)
    small = filled(in_each_cell(2, 1 / len(at.weight)), 1, dtype, device)
    smoothed = torch.addcdiv(small, cells.index_select(0, best), at.total)
    slopes = path.at(ConfusionTables.of_cells(smoothed)).slopes()
    cut = cuts.index_select(0, best)[0]
    shown = path.shown(tables, values)
    return cut, (shown[-2], shown[-1]), slopes if higher_is_better else -slopes


def _cells(at: Remembered, cuts: Tensor, weight: Tensor) -> Tensor:
    """``(K + 2, 2, 2)`` tables, of the memory at each threshold, and of the batch at the first one and ideally.

    Args:
        at: scores.
        cuts: ``(K,)`` thresholds.
        weight: ``(2 R,)`` float64 of the rows, then what of it is the batch's.
    """
    (bounds, order), size = cuts.sort(), 2 * len(cuts) + 2
    between = at.targets.long().add_(torch.bucketize(at.values, bounds), alpha=2)
    empty = filled(0.0, 2 * size, weight.dtype, weight.device).view(2, size)
    each = sums_at(between.expand(2, -1), weight.view(2, -1), empty).view(2, -1, 2)
    sums = _around(len(cuts), weight.dtype, weight.device) @ each  # no differences: nothing above is 0 to the bit
    sorted_tables = sums[:, :-1].unflatten(1, (-1, 2)).mT
    tables = torch.empty_like(sorted_tables).index_copy_(1, order, sorted_tables)
    return torch.cat([tables[0], tables[1, :1], torch.diag_embed(sums[1, -1:])])


@functools.lru_cache(maxsize=8)
def _around(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(2 K + 1, K + 1)`` ones: of what lies between K thresholds, what is below each and what above; and all."""
    with torch.inference_mode(False):
        place = torch.arange(count + 1, device=device)
        below = place <= place[:-1, None]
        each = torch.stack([below, ~below], 1).flatten(0, 1)
        return torch.cat([each, torch.ones_like(each[:1])]).to(dtype)


@functools.lru_cache(maxsize=8)
def _even(before: int, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(2 R,)`` weights of all rows, and what of it is the batch's, where each weighs 1."""
    with torch.inference_mode(False):
        return torch.ones(2 * (before + rows), dtype=dtype, device=device).index_fill_(
            0, torch.arange(before, device=device) + before + rows, 0
        )


def _cuts(at: Remembered, count: int) -> Tensor:
    """``(1 + count,)``: 0, and evenly spaced quantiles of the scores, between the smallest and the largest."""
    values, last = at.values, at.values.shape[0] - 1
    if at.even:
        around, share = _quantiles(count, last, values.dtype, values.device)
    else:
        absent = at.weight <= 0
        values = values.masked_fill(absent, torch.inf)
        around, share = _between(_shares(count, values.dtype, values.device) * (last - absent.sum()))
    low, high = values.sort().values[around].unbind()
    return torch.cat([filled(0.0, 1, values.dtype, values.device), torch.lerp(low, high, share)])


@functools.lru_cache(maxsize=16)
def _quantiles(count: int, last: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        return _between(_shares(count, dtype, device) * last)


def _between(place: Tensor) -> tuple[Tensor, Tensor]:
    """``(2, K)`` whole places around each, and how far it is from the first to the second."""
    around = torch.stack([place, place.ceil()]).long()
    return around, place - around[0]


@functools.cache
def _shares(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.linspace(0, 1, count + 2, dtype=dtype, device=device)[1:-1]


def _best(values: Tensor, higher_is_better: bool) -> Tensor:
    """``(1,)``: where the best value is, the first of several."""
    return torch.nan_to_num(values if higher_is_better else -values, nan=-torch.inf).argmax(0, keepdim=True)
