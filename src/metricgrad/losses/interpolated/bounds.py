"""Between which values of a metric a batch stands, and how far from the ideal an interpolated value is."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.direction import ROUNDING
from metricgrad.refactoring.probing.probe import defined_elsewhere


@dataclass(frozen=True)
class Bounds:
    """Values of a metric on one batch, 0-d each.

    Attributes:
        current: of the scores.
        best: of ideal scores.
        worst: of ideal scores turned round.
        reason: what a metric that raised on this batch alone said; the values are then NaN.
    """

    current: Tensor
    best: Tensor
    worst: Tensor
    reason: str = ""

    @functools.cached_property
    def read(self) -> tuple[float, float, float]:
        """The three as numbers, for which the host waits once."""
        current, best, worst = torch.stack([self.current, self.best, self.worst]).tolist()
        return current, best, worst

    def away(self, higher_is_better: bool) -> float | None:
        """How far the scores are from ideal ones; None where the metric is undefined there, as of scores that tie."""
        current, best, _ = self.read
        found = best - current if higher_is_better else current - best
        return found if math.isfinite(found) else None

    @property
    def reached(self) -> bool:
        """Whether the scores are worth as much as ideal ones."""
        current, best, _ = self.read
        return current == best

    @property
    def ideal(self) -> bool:
        """Whether the scores are worth as much as ideal ones, and others are not."""
        _, best, worst = self.read
        return self.reached and worst != best


@dataclass(frozen=True)
class Estimate:
    """An interpolated metric.

    Attributes:
        value: 0-d, or ``(S,)`` from each start; differentiable in the scores.
        start: the metric's own value there: of each strict order of scores that tie, or of the scores.
        informs: whether any configuration has another value than the others.
    """

    value: Tensor
    start: Tensor
    informs: bool


@torch.no_grad()
def bounds_of(metric: Metric, batch: Batch, refactoring: Refactoring, generator: torch.Generator) -> Bounds:
    """The metric now, of ideal scores, and of those turned round; NaN where it raises on this batch alone."""
    try:
        current, best, worst = refactoring.extremes(metric, batch, generator)
        return Bounds(current, best, worst)
    except MetricgradError as error:
        if not defined_elsewhere(metric, batch):
            raise
        nothing = batch.scores.new_full((), torch.nan)
        return Bounds(nothing, nothing, nothing, str(error))


def distance_from_ideal(estimate: Estimate, bounds: Bounds, higher_is_better: bool) -> Tensor:
    """Distance of an interpolated value from the ideal, from each start.

    A first-order value may leave the metric's range, and a strict order of scores that tie may be worth less than the
    tie: the value is mended and the gradient is not. It is 0 only where the current scores have the ideal's value, and
    below 0 only where they have a better one.
    """
    current, best, start = bounds.current, bounds.best, estimate.start
    sign = 1.0 if higher_is_better else -1.0
    loss, farthest = sign * (best - estimate.value), sign * (best - bounds.worst)
    shown = loss.detach()
    tied = (start - current).abs() > ROUNDING
    suits = tied & current.isfinite() & (sign * (best - current) <= 0)
    current = torch.where(suits, current, start)
    reached = torch.where(current.isfinite(), sign * (best - current), shown)
    shown = torch.where(suits, torch.zeros_like(shown), shown)
    rounding = ROUNDING * torch.maximum(best.abs(), current.abs()) + 1e-12
    reached = torch.where((reached < 0) & (reached > -rounding), torch.zeros_like(reached), reached)
    shown = torch.where(shown <= 0, reached, shown)
    shown = torch.where(farthest > 0, torch.minimum(shown, torch.maximum(farthest, reached)), shown)
    return shown + (loss - loss.detach())
