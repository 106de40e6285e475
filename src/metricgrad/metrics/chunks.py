"""Bounded memory for batched metrics that make several copies of their input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BUDGET = 2**23
"""Scores handled in one go: 64 MiB in float64 for each copy, of which a sort keeps a handful."""


def in_chunks(fn: Callable[[Tensor], Tensor], stack: Tensor) -> Tensor:
    """Apply ``fn: (t, ...) -> (t,)`` to as many of the T score sets at once as the budget allows; usually all."""
    size = max(1, BUDGET // max(1, stack[0].numel()))
    if size >= len(stack):
        return fn(stack)
    return torch.cat([fn(part) for part in stack.split(size)])
