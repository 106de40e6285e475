"""The softness of an interpolated metric where it sets itself: from the comparisons it divides."""

from __future__ import annotations

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
    log_softness: Tensor, how: Literal["auto", "once"], refactoring: Refactoring, batch: Batch, *, unset: bool
) -> None:
    """Move the 0-d ``log_softness``, in place, to the mean absolute comparison of the batch; NaN is not yet set."""
    if not unset and how == "once":
        return
    spread = refactoring.spread(batch.scores, batch.targets, groups=batch.groups) * refactoring.relative
    spread = spread.clamp(min=refactoring.sharpest, max=1.0 if how == "once" else None)
    target = spread.log().to(log_softness)
    log_softness.copy_(target if unset else log_softness.lerp(target, _PACE))


def softness_of(log_softness: Tensor, scores: Tensor) -> Tensor:
    """0-d, on the device of the scores; 1 where it was never set."""
    given = wide(log_softness.to(scores.device))
    return torch.where(given.isnan(), torch.zeros_like(given), given).exp()


def read(log_softness: Tensor) -> float:
    """As a number; NaN where it was never set."""
    return float(wide(log_softness.detach()).exp())
