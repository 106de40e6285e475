"""An order of rows by what is in them, so that what is drawn at random for each row does not depend on their order."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from metricgrad.precision import wide, wide_dtype
from metricgrad.refactoring.batch import Batch, RowOrder


def by_content(batch: Batch) -> Batch:
    """The batch in an order that its content decides; equal rows share the gradient of their scores evenly.

    Rows are sorted by a weighted sum of their scores, then of their targets, then of their context: as long as no two
    rows change places, the loss is a continuous function of the scores.

    Cost: O(N C) for the sums and O(N log N) for the sort.
    """
    parts = [batch.scores.detach(), batch.targets, *_by_row(batch.context, len(batch.scores))]
    key, order = _sum_of_columns(parts[0]).sort(stable=True)
    tied = bool((key.diff() == 0).any())
    if tied:
        order = _lexicographic([_sum_of_columns(part) for part in parts])
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    context = {name: value[order] if _is_by_row(value, len(order)) else value for name, value in batch.context.items()}
    scores = batch.scores[order]
    if tied and bool((same := _same_as_next([part[order] for part in parts], key)).any()):
        kind = torch.nn.functional.pad((~same).long().cumsum(0), (1, 0))
        size = torch.bincount(kind).to(scores)
        mean = scores.new_zeros(len(size), *scores.shape[1:]).index_add(0, kind, scores / _along(size[kind], scores))
        scores = scores.detach() + (mean - mean.detach())[kind]
    return Batch(scores, batch.targets[order], context, order=RowOrder(batch, inverse))


def _sum_of_columns(part: Tensor) -> Tensor:
    """``(N,)`` wide, in units of the largest entry so that nothing overflows; equal rows have equal sums."""
    rows = wide(part.reshape(len(part), -1))
    if not rows.numel():
        return rows.new_zeros(len(rows))
    rows = rows / rows.abs().amax().clamp(min=torch.finfo(rows.dtype).tiny) * _weights(rows.shape[1], rows.device)
    while rows.shape[1] > 1:  # by halves: a reduction adds up some rows in another order than others
        half = rows.shape[1] // 2
        rows = torch.cat([rows[:, :half] + rows[:, half : 2 * half], rows[:, 2 * half :]], 1)
    return rows[:, 0]


@functools.lru_cache(maxsize=16)
def _weights(columns: int, device: torch.device) -> Tensor:
    """Drawn, so that no whole numbers of columns add up to the same; from a seed, so that they are the same always."""
    with torch.inference_mode(False):
        drawn = torch.rand(columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return (0.5 + drawn).to(device, wide_dtype(device))


def _lexicographic(keys: list[Tensor]) -> Tensor:
    order = torch.arange(len(keys[0]), device=keys[0].device)
    for key in reversed(keys):
        order = order[key[order].argsort(stable=True)]
    return order


def _same_as_next(parts: list[Tensor], key: Tensor) -> Tensor:
    """``(N - 1,)`` whether two neighbours are one row in all parts."""
    same = key.diff() == 0
    for part in parts:
        rows = part.reshape(len(part), -1)
        same = same & (rows[1:] == rows[:-1]).all(1)
    return same


def _along(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _is_by_row(value: Tensor, rows: int) -> bool:
    return value.ndim > 0 and len(value) == rows


def _by_row(context: Mapping[str, Tensor], rows: int) -> list[Tensor]:
    return [context[name] for name in sorted(context) if _is_by_row(context[name], rows)]
