"""The four published systems as points on the grid."""

from __future__ import annotations

from metricgrad.loss import Loss
from metricgrad.losses.interpolated import Interpolated
from metricgrad.metric import Metric, as_metric


class UniLoss(Loss):
    """The metric itself, interpolated; nothing is learned."""

    def __init__(self, metric: str | Metric, *, softness: float = 1.0, seed: int = 0) -> None:
        super().__init__(Interpolated(as_metric(metric), softness=softness), seed=seed)
