"""The last decisions of a training, on which a metric of a whole set is looked at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.functional.constants import filled
from metricgrad.on_host import OnHost
from metricgrad.precision import FullPrecision


class Remembered(NamedTuple):
    """Rows of the last batches, the current one last.

    Attributes:
        values: ``(R,)`` what was decided, or scores.
        targets: ``(R,)``.
        weight: ``(R,)`` 0 in places that hold nothing yet.
        even: whether every place is known to hold a row that weighs 1, which the host need not ask for.
    """

    values: Tensor
    targets: Tensor
    weight: Tensor
    even: bool = False

    @property
    def total(self) -> Tensor:
        """0-d: what all rows weigh."""
        weight = self.weight
        return filled(float(len(weight)), 1, weight.dtype, weight.device)[0] if self.even else weight.sum()


class Memory(FullPrecision):
    """The last rows of a training, in the state of the loss, so that a resumed training has them too.

    Args:
        size: how many rows; a larger batch is taken whole.
    """

    rows: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(3, size, dtype=torch.float64))
        self._held = OnHost(_held)

    @torch.no_grad()
    def joined(self, values: Tensor, targets: Tensor, weight: Tensor | None, *, keep: bool) -> Remembered:
        """What is remembered with a batch at its end.

        Args:
            values: ``(N,)`` of the batch.
            targets: ``(N,)``.
            weight: ``(N,)``, or None for ones.
            keep: whether to remember the batch.
        """
        rows, n, size = self.rows, values.shape[0], self.rows.shape[1]
        ones = 0 if weight is not None else n + self._held.of(rows)
        now = values, targets, filled(1.0, n, rows.dtype, rows.device) if weight is None else weight
        each = [part for pair in zip(rows[:, n:], now, strict=True) for part in pair]
        found = torch.cat(each).view(3, -1)
        if keep:
            rows.copy_(found if n <= size else found[:, -size:])
            self._held.wrote(rows, min(size, ones))
        return Remembered(*found.unbind(), even=ones >= size)

    def unweighted(self, values: Tensor, targets: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
        """``(R,)`` values and targets of all rows held, of batches without weights, the current one at their end.

        Args:
            values: as in :meth:`joined`, as all else; what is found has their dtype.
            targets: likewise; none needs a gradient.
            keep: likewise.
        """
        rows, held = self.rows, self._held.of(self.rows)
        size, n = rows.shape[1], values.shape[0]
        past = rows[:2, max(n, size - held) :]
        both = [past[0], values, past[1], targets]
        found = torch.cat(both, out=values.new_empty(sum(len(part) for part in both))).view(2, -1)
        if keep:
            now = min(size, found.shape[1])
            rows[:2, size - now :] = found[:, -now:]
            if now != held:
                rows[2, size - now :].fill_(1)
            self._held.wrote(rows, now)
        return found[0], found[1]

    def forget(self) -> None:
        """Empty it: what it holds says nothing of the data to come."""
        self.rows.zero_()


def _held(rows: Tensor) -> int:
    """How many places, at the end, hold rows that weigh 1."""
    return int((rows[2] == 1).flip(0).long().cumprod(0).sum())
