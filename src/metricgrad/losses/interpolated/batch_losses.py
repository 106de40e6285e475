"""What a way of linearising a metric makes of one batch, in the scores that the metric reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.losses.base import Ramp, Told

TO_FLOOR = (Ramp(1.0, 0.1, 0.5), Ramp(0.0, 1.0, 0.5))


@dataclass(frozen=True)
class BatchLosses:
    """Parts of a batch as the metric reads it.

    Attributes:
        gradients: in its scores.
        losses: as functions of its scores.
        shown: 0-d, or how that follows.
        ramps: of the base's weight and of theirs.
        cross_entropy: the gradient of cross-entropy, where it comes along.
    """

    gradients: tuple[Tensor, ...]
    losses: Callable[[Tensor], tuple[Tensor, ...]]
    shown: Tensor | Told
    ramps: tuple[Ramp, Ramp]
    cross_entropy: Tensor | None = None


def no_losses(scores: Tensor) -> BatchLosses:
    """Of a batch on which the metric is undefined."""
    scores = scores.detach()
    return BatchLosses((torch.zeros_like(scores),), lambda s: (s.sum() * 0.0,), scores.new_zeros(()), TO_FLOOR)
