"""The softness of an interpolated metric where it sets itself: from the comparisons it divides."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from metricgrad.precision import wide
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch

_PACE = 0.01
"""Share of the way that ``"auto"`` goes in one step: following every batch would remove the pull to grow margins."""


@torch.no_grad()
def follow(
    log_softness: Tensor,
    how: Literal["auto", "once"],
    refactoring: Refactoring,
    batch: Batch,
    *,
    unset: bool,
    keep: bool,
) -> Tensor:
    """0-d: the softness of a batch, to whose mean absolute comparison ``log_softness`` is moved.

    Args:
        log_softness: 0-d, written in place.
        how: of the way there, all at first and then none, or a little of it each time.
        refactoring: makes comparisons.
        batch: of them.
        unset: whether ``log_softness`` is NaN, which was never set.
        keep: whether to write; what was never set is that of the batch all the same.
    """
    if not unset and (how == "once" or not keep):
        return softness_of(log_softness, batch.scores)
    spread = refactoring.spread(batch.scores, batch.targets, groups=batch.groups) * refactoring.relative
    spread = spread.clamp(min=refactoring.sharpest, max=1.0 if how == "once" else None)
    target = spread.log().to(log_softness)
    found = target if unset else log_softness.lerp(target, _PACE)
    if keep:
        log_softness.copy_(found)
    return softness_of(found, batch.scores)


def softness_of(log_softness: Tensor, scores: Tensor) -> Tensor:
    """0-d, on the device of the scores; 1 where it was never set."""
    given = wide(log_softness.to(scores.device))
    return torch.where(given.isnan(), torch.zeros_like(given), given).exp()


def held_softness(log_softness: Tensor, known: float, scores: Tensor) -> Tensor | float:
    """As :func:`softness_of`: the number that the host knows, where nobody differentiates it."""
    if log_softness.requires_grad:
        return softness_of(log_softness, scores)
    return 1.0 if math.isnan(known) else known


def read(log_softness: Tensor) -> float:
    """As a number; NaN where it was never set."""
    return float(wide(log_softness.detach()).exp())
