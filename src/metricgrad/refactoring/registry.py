"""From a metric's structure, or from a probe, to the refactoring that serves it."""

from __future__ import annotations

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metric import Metric
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.labels import Argmax


def described(metric: Metric, scores: Tensor, targets: Tensor) -> Refactoring:
    """The refactoring that a described metric carries, for scores and targets of these shapes."""
    structure = metric.structure
    if structure is None:
        raise MetricgradError(f"metric {metric.name!r} is not described")
    if structure.kind == "labels" and scores.ndim == 2 and targets.ndim == 1:
        return Argmax(exchangeable=structure.exchangeable)
    raise MetricgradError(f"no refactoring for {metric.name!r}")
