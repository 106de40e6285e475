"""What metrics of values ask of scores and targets."""

from __future__ import annotations

from torch import Tensor

from metricgrad.checks import where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.value_range import ranges_of


def check_values(scores: Tensor, targets: Tensor, metric: str) -> None:
    """Refuse infinite targets, and ``(T, ...)`` scores of another shape; NaN among targets makes the metric NaN.

    Raises:
        MetricgradError: for either.
    """
    if scores.shape[1:] != targets.shape:
        raise MetricgradError(
            f"{metric} compares scores and targets of one shape, got {tuple(scores.shape[1:])} and "
            f"{tuple(targets.shape)}"
        )
    (span,) = ranges_of(targets)
    if not span.finite and not span.has_nan:
        raise MetricgradError(
            f"metric {metric!r}: targets hold {where_not_finite(targets)}; leave those rows out with mask="
        )
