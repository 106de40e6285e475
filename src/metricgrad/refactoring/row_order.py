"""An order of rows by what is in them, so that what is drawn at random for each row does not depend on their order."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metricgrad.refactoring.batch import Batch, RowOrder

_ODD = 0x1E3779B97F4A7C15
"""About 2^64 / golden ratio, without its highest bit: its multiples are spread evenly."""


def by_content(batch: Batch) -> Batch:
    """The batch in an order that its content decides; equal rows share the gradient of their scores evenly.

    Rows are sorted by a hash of their scores, targets and context; of 10^6 different rows two collide with chance 1e-7.

    Cost: O(N C) for the hash and O(N log N) for the sort.
    """
    parts = [batch.scores.detach(), batch.targets, *_by_row(batch.context, len(batch.scores))]
    key, order = _hash(parts).sort()
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    context = {name: value[order] if _is_by_row(value, len(order)) else value for name, value in batch.context.items()}
    scores = batch.scores[order]
    same = key.diff() == 0
    if bool(same.any()):
        kind = torch.nn.functional.pad((~same).long().cumsum(0), (1, 0))
        size = torch.bincount(kind).to(scores)
        mean = scores.new_zeros(len(size), *scores.shape[1:]).index_add(0, kind, scores / _along(size[kind], scores))
        scores = scores.detach() + (mean - mean.detach())[kind]
    return Batch(scores, batch.targets[order], context, order=RowOrder(batch, inverse))


def _along(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _is_by_row(value: Tensor, rows: int) -> bool:
    return value.ndim > 0 and len(value) == rows


def _by_row(context: Mapping[str, Tensor], rows: int) -> list[Tensor]:
    return [context[name] for name in sorted(context) if _is_by_row(context[name], rows)]


def _hash(parts: list[Tensor]) -> Tensor:
    """``(N,)`` int64 of tensors of N rows each."""
    total = parts[0].new_zeros(len(parts[0]), dtype=torch.long)
    for number, part in enumerate(parts):
        rows = part.reshape(len(part), -1)
        if rows.is_floating_point():  # -0 is 0
            rows = rows.float() if rows.dtype.itemsize < 4 else rows
            rows = (rows + 0.0).view(torch.int64 if rows.dtype == torch.float64 else torch.int32)
        bits = rows.long()
        place = torch.arange(bits.shape[1], device=bits.device) + (number << 40)
        odd = (2 * place + 1) * _ODD
        # the high bits first, where small whole numbers have all of theirs
        bits = (bits ^ (bits >> 29)) * odd
        bits = (bits ^ (bits >> 32)) * _ODD
        total = total + (bits ^ (bits >> 29)).sum(1)
    return total
