"""The place of a metric that a file names and that is not built in, until somebody passes it again."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import stored_metric
from metricgrad.metrics.metric import Metric


class AbsentMetric(Metric):
    """Has the name of a metric, and judges nothing: a model answers without the metric it was chosen by.

    Args:
        name: of the metric.
    """

    def __init__(self, name: str) -> None:
        super().__init__(self.over, name=name, higher_is_better=True)

    def over(self, stack: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """Refuses.

        Raises:
            MetricgradError: always.
        """
        raise MetricgradError(f"the metric {self.name!r:.60} is not built in; pass it again: metric=...")


def metric_of_file(spec: str, passed: Any) -> Metric:
    """The metric that a model's file names: built in, or passed by whoever loads it, or the place of one that is not.

    Raises:
        MetricgradError: for what was passed and is no metric.
    """
    try:
        return stored_metric(spec, passed)
    except MetricgradError:
        if passed is not None:
            raise
        return AbsentMetric(spec)
