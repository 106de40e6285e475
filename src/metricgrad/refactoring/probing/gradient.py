"""Whether a torch metric needs no surrogate: its gradient accounts for how its value changes.

A gradient alone proves little. Calibration error has one that is right within its bins and blind to the jumps between
them. So the gradient is integrated along a path from poor scores to good ones, and must add up to the change of the
metric, all along the way.
"""

from __future__ import annotations

import torch

from metricgrad.errors import MetricgradError
from metricgrad.refactoring.probing.caller import Caller, Trial

_STEPS = 16
_SHARE = 0.05
_PATHS = ((5, 0), (4, 6))
"""From and to which of the graded score sets: random to ideal, half right to half upside down."""


def gradient_trial(caller: Caller) -> Trial:
    """Integrate the metric's own gradient; at most 34 calls, and one where there is none."""
    name = "the gradient accounts for the value"
    for start, end in _PATHS:
        try:
            values, slopes = _along(caller, start, end)
        except Exception as error:  # NumPy metrics, metrics of labels, whatever a callable raises under autograd
            return Trial(name, "broken", f"it has no gradient: {error}")
        change = values - values[0]
        explained = torch.cumulative_trapezoid(slopes, dx=1 / _STEPS)
        gap = float((change[1:] - explained).abs().max())
        span = float(change.abs().max())
        if not gap <= _SHARE * span or span == 0:
            return Trial(name, "broken", f"on a path the value changes by {span:.4g}, its gradient is off by {gap:.4g}")
    return Trial(name, "held", f"integrated along {len(_PATHS)} paths of {_STEPS} steps")


def _along(caller: Caller, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    batch = caller.batch
    first = caller.bases[start].to(batch.like)
    way = caller.bases[end].to(batch.like) - first
    values, slopes = [], []
    for step in range(_STEPS + 1):
        caller.count()
        scores = (first + step / _STEPS * way).requires_grad_()
        with torch.enable_grad():
            whole, targets = batch.as_called(scores)
            targets = targets.to(batch.like) if targets.is_floating_point() else targets
            value = caller.metric.differentiable(whole, targets, **batch.context)
            if not value.requires_grad:
                raise MetricgradError("nothing in it is differentiable in the scores")
            (gradient,) = torch.autograd.grad(value, scores)
        values.append(float(value))
        slopes.append(float((gradient * way).sum()))
    return torch.tensor(values, dtype=torch.float64), torch.tensor(slopes, dtype=torch.float64)
