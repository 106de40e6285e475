"""The last decisions of a training, on which a metric of a whole set is looked at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Remembered(NamedTuple):
    """Rows of the last batches, the current one last.

    Attributes:
        values: ``(R,)`` what was decided, or scores.
        targets: ``(R,)``.
        weight: ``(R,)`` 0 in places that hold nothing yet.
    """

    values: Tensor
    targets: Tensor
    weight: Tensor


class Memory(nn.Module):
    """The last rows of a training, in the state of the loss, so that a resumed training has them too.

    Args:
        size: how many rows; a larger batch is taken whole.
    """

    rows: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(3, size, dtype=torch.float64))

    @torch.no_grad()
    def joined(self, values: Tensor, targets: Tensor, weight: Tensor | None, *, keep: bool) -> Remembered:
        """What is remembered with a batch at its end.

        Args:
            values: ``(N,)`` of the batch.
            targets: ``(N,)``.
            weight: ``(N,)``, or None for ones.
            keep: whether to remember the batch.
        """
        size, values = self.rows.shape[1], values.double()
        weight = torch.ones_like(values) if weight is None else weight.double()
        found = torch.stack([values, targets.double(), weight])
        found = torch.cat([self.rows[:, len(values) :], found], 1)
        if keep:
            self.rows.copy_(found[:, -size:])
        return Remembered(*found)

    def forget(self) -> None:
        """Empty it: what it holds says nothing of the data to come."""
        self.rows.zero_()
