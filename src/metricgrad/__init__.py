"""Train on the metric you are judged by: any metric in, a loss out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from metricgrad.errors import MetricgradError

if TYPE_CHECKING:
    from metricgrad.loss import Loss
    from metricgrad.metric import Metric, as_metric
    from metricgrad.metrics.registry import list_metrics
    from metricgrad.systems import UniLoss

__version__ = "0.1.0"
__all__ = ["Loss", "Metric", "MetricgradError", "UniLoss", "as_metric", "list_metrics"]

_HOME = {
    "Loss": "metricgrad.loss",
    "Metric": "metricgrad.metric",
    "UniLoss": "metricgrad.systems",
    "as_metric": "metricgrad.metric",
    "list_metrics": "metricgrad.metrics.registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'metricgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
