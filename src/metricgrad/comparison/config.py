"""What a study is: what must be the same for runs to stand in one table."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.records import SCHEMA
from metricgrad.comparison.runs.agenda import TUNING_SEED
from metricgrad.comparison.runs.budget import Limit
from metricgrad.metrics.metric import Metric
from metricgrad.tasks.task import Task
from metricgrad.training.delivery import Asked, describe_decision
from metricgrad.training.options import made_by
from metricgrad.training.run_folder.code_checksum import code_checksum
from metricgrad.training.run_folder.fingerprints import describe_data, describe_model
from metricgrad.version import __version__


def identity(task: Task, metric: Metric) -> str:
    """What tells a task and a metric from others: their names, and a checksum of each part of the tuning draw."""
    parts = ", ".join(map(describe_data, task.load(TUNING_SEED)))
    return f"{task.name}, {metric.spec or metric.name}, {parts}"


def config_of(
    task: Task, metric: Metric, rows: Sequence[Candidate], decision: Asked, limit: Limit | None
) -> dict[str, Any]:
    """JSON-able, for ``config.json``; see :class:`metricgrad.comparison.records.Records`."""
    with kept_all_randomness():
        model = describe_model(made_by(task.model, f"task {task.name!r}: model"))
    return {
        "schema": SCHEMA,
        "version": __version__,
        "task": task.name,
        "metric": metric.spec or metric.name,
        "decision": describe_decision(decision),
        "options": task.options,
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        **({} if task.per_class is None else {"per_class": task.per_class}),
        **({} if limit is None else {"budget": asdict(limit)}),
        "model": model,
        "data": dict(zip(("train", "valid", "test"), map(describe_data, task.load(0)), strict=True)),
        "losses": {row.name: row.what for row in rows},
        "code": _code(metric, rows),
        "spaces": {row.name: {name: asdict(bounds) for name, bounds in row.space.items()} for row in rows},
    }


def _code(metric: Metric, rows: Sequence[Candidate]) -> dict[str, str]:
    """Checksums of the metric and the losses that are not built in; bytecode is compared within one version of it."""
    found = {f"loss {row.name}": row.code for row in rows if row.code}
    if metric.spec is None:
        found[f"metric {metric.name}"] = code_checksum(
            [metric._fn, metric.fixed, metric.reads, metric.higher_is_better]
        )
    python = ".".join(platform.python_version_tuple()[:2])
    return {f"{name}, Python {python}": code for name, code in found.items()}
