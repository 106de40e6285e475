"""A metric of what models of tables give: values in the unit of the file, though networks see deviations from the mean,
and logits of classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide
from metricgrad.tables.schema import Target


def in_units_of(target: Target, metric: Metric) -> Metric:
    """The metric of what models of tables give: scores and targets in the target's own unit, logits of classes.

    Args:
        target: of a regression; of anything else scores are logits, wherever they lie.
        metric: of values.

    Example:
        >>> import torch, metricgrad as mg
        >>> found = in_units_of(Target("price", "regression", centre=100.0, scale=10.0), mg.as_metric("mae"))
        >>> float(found(torch.tensor([1.0]), torch.tensor([0.5])))  # 110 and 105
        5.0
    """
    if target.type != "regression":
        return metric.of_logits()
    function = metric._fn

    def of_units(first: Any, second: Any, *rest: Any, **options: Any) -> Any:
        return function(_back(target, first), _back(target, second), *rest, **options)

    return metric._copy(_fn=of_units, spec=None, fast_path=None)


def order_alone(target: Target, metric: Metric) -> str | None:
    """What is to be said of answers of which the metric reads the order and no more; None of any others.

    Args:
        target: what is predicted.
        metric: what the model was chosen by.

    Example:
        >>> import metricgrad as mg
        >>> order_alone(Target("price", "regression"), mg.as_metric("spearman"))
        "spearman reads the order of the answers alone: they are scores to sort by, and no values of 'price'"
    """
    known = metric.structure
    if target.type != "regression" or known is None or known.kind != "ranking":
        return None
    return (
        f"{metric.name} reads the order of the answers alone: they are scores to sort by, and no values of "
        f"{target.name!r}"
    )


def _back(target: Target, values: Any) -> Any:
    return (wide(values) if isinstance(values, Tensor) else values) * target.scale + target.centre
