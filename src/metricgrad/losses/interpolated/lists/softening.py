"""How pairs of ranked items are softened, and what is asked of the loss that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.kernels import SIGMOID, Kernel
from metricgrad.functional.leak import LEAK


def _four_times(near: Tensor) -> Tensor:
    """All that lies within the sigmoid's reach on both sides."""
    return 4 * near


def _whole(near: Tensor) -> Tensor:
    """The width of secants that pass as many items as lie within the softness on one side."""
    return (2 * near).round()


@dataclass(frozen=True)
class Softening:
    """What the losses of lists have in common.

    Attributes:
        dtype: that pairs are summed in.
        width: of a secant, in items or in their weight, from a quarter of what is within the sigmoid's reach.
        kernel: k, which rises like a sigmoid.
        leak: whether pairs that are surely wrong keep the slope of :mod:`metricgrad.functional.leak`.
        share: the share of the negatives of all lists that is looked at, the highest ones.
        valued: whether the loss is asked for, beside its gradient.
        steepness: how fast values rise with what the gradient is taken in: one over the softness, where it is in
            what is ranked, or 1.
    """

    dtype: torch.dtype
    width: Callable[[Tensor], Tensor] = _four_times
    kernel: Kernel = SIGMOID
    leak: bool = False
    share: float = 1.0
    valued: bool = False
    steepness: float = 1.0

    @classmethod
    def with_tail(cls, dtype: torch.dtype, q: float, **options: Any) -> Softening:
        """That of :mod:`metricgrad.refactoring.ranking.passing`, with this tail exponent."""
        return cls(dtype, _whole, Kernel((0.0, q), slope=1 - q), 1 - q < LEAK, **options)
