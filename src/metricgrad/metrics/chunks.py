"""Bounded memory for batched metrics that make several copies of their input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BUDGET = 2**23
"""Scores handled in one go: 64 MiB in float64 for each copy, a handful of which a sort keeps."""


def in_chunks(fn: Callable[[Tensor], Tensor], read: Tensor) -> Tensor:
    """Apply ``fn: (t, ...) -> (t,)`` to as many of the T score sets at once as the budget allows; usually all."""
    size = max(1, BUDGET // max(1, read[0].numel()))
    if size >= len(read):
        return fn(read)
    return torch.cat([fn(part) for part in read.split(size)])
