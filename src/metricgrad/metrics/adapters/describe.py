"""What is known of other libraries' metrics: how they read scores, in which order, and which way is up.

A callable is recognised by the module and the name it was defined under, or, for a torchmetrics object, by its class;
no library is imported for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.metrics.types import Reads


def describe(metric: Callable[..., Any], fixed: dict[str, Any], reads: Reads | None = None) -> dict[str, Any]:
    """Options of :func:`metricgrad.as_metric` known for a callable; empty for one nobody described.

    Args:
        metric: a function, a torchmetrics class or object, or anything else that can be called.
        fixed: the keyword arguments it will be called with.
        reads: what the user said it reads. Where that is not what is known, the callable is handed exactly what was
            said, and neither the adapter's own preparation nor the structure holds any more.

    Returns:
        Some of ``higher_is_better``, ``reads``, ``inputs``, ``order``, ``name``, ``structure``, ``by_order``,
        ``context``, ``torch_equivalent``, ``targets``, ``layout``, ``twin``, and something else for ``fn``, ``fixed``.

    Raises:
        MetricgradError: for something that is no metric of scores and targets, such as a scikit-learn scorer.
    """
    known = _known(metric, fixed)
    if reads is None or reads == known.get("reads"):
        return known
    kept = ("higher_is_better", "inputs", "order", "name", "context", "fixed", "layout")
    return {key: known[key] for key in kept if key in known} | ({"fn": known["raw"]} if "raw" in known else {})


def _known(metric: Callable[..., Any], fixed: dict[str, Any]) -> dict[str, Any]:
    kinds = inspect.getmro(metric if isinstance(metric, type) else type(metric))
    modules = [kind.__module__ for kind in kinds]
    if "sklearn.metrics._scorer" in modules:
        raise MetricgradError(
            "a scikit-learn scorer is called with an estimator; pass the function it was made of, as scorer._score_func"
        )
    module = getattr(metric, "__module__", None) or ""
    if module.startswith("sklearn.metrics"):
        from metricgrad.metrics.adapters.sklearn import describe_sklearn

        return describe_sklearn(metric, fixed)
    if module.startswith("scipy.stats"):
        from metricgrad.metrics.adapters.scipy import describe_scipy

        return describe_scipy(metric, fixed)
    if any(name.startswith("torchmetrics.") for name in modules):
        from metricgrad.metrics.adapters.torchmetrics import describe_object

        return describe_object(metric, fixed)
    if module.startswith("torchmetrics."):
        from metricgrad.metrics.adapters.torchmetrics import describe_function

        return describe_function(metric, fixed)
    return {}
