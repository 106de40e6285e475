"""A metric of values told in the unit of the file, though networks see deviations from the mean."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide
from metricgrad.tables.schema import Target


def in_units_of(target: Target, metric: Metric) -> Metric:
    """The metric of scores and targets in the target's own unit.

    Args:
        target: of a regression; of anything else the metric is returned as it is.
        metric: of values.

    Example:
        >>> import torch, metricgrad as mg
        >>> found = in_units_of(Target("price", "regression", centre=100.0, scale=10.0), mg.as_metric("mae"))
        >>> float(found(torch.tensor([1.0]), torch.tensor([0.5])))  # 110 and 105
        5.0
    """
    if target.type != "regression":
        return metric
    function = metric._fn

    def of_units(first: Any, second: Any, *rest: Any, **options: Any) -> Any:
        return function(_back(target, first), _back(target, second), *rest, **options)

    return metric._copy(_fn=of_units, spec=None, fast_path=None)


def _back(target: Target, values: Any) -> Any:
    return (wide(values) if isinstance(values, Tensor) else values) * target.scale + target.centre
