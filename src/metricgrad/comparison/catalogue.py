"""What a study alone asks of a loss by its name: its role, what is left to tune, and how it learns from a task."""

from __future__ import annotations

from collections.abc import Callable

from metricgrad.losses.registry import Range, Role
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.spec import parse_spec
from metricgrad.systems.by_name import find
from metricgrad.systems.reloss import FittedNetwork
from metricgrad.training.reloss_of_task import network_of_training

FITTED_ON_TRAINING: dict[str, Callable[..., FittedNetwork]] = {"reloss": network_of_training}
"""Name -> what fits the loss to the metric on a task's training part, but for what is tuned of it."""


def fitting_of(spec: str) -> Callable[..., FittedNetwork] | None:
    """What fits the loss on a task's training part, or None where it needs no data."""
    return FITTED_ON_TRAINING.get(parse_spec(spec)[0])


def role_of(spec: str, metric: Metric) -> Role:
    """``"control"`` for entries made to be beaten, a loss that trains on another metric, and one nothing aligns."""
    entry, fixed = find(spec)
    if fixed.get("aligner") in ("random_walk", "static"):
        return "control"
    if "metric" in fixed and entry.takes_metric and as_metric(fixed["metric"]).name != metric.name:
        return "control"
    return entry.role


def space_of(spec: str, metric: Metric | None = None) -> dict[str, Range]:
    """What is left to tune once the spec has fixed what it names; for embeddings where the metric reads them."""
    entry, fixed = find(spec)
    of_embeddings = metric is not None and metric.layout.of_embeddings
    space = {**entry.space, **(entry.of_embeddings if of_embeddings else {})}
    return {name: bounds for name, bounds in space.items() if name not in fixed}
