"""The built-in tasks by name, imported when asked for."""

from __future__ import annotations

import importlib

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.tasks.by_path import is_path, task_at
from metricgrad.tasks.listing import LISTED
from metricgrad.tasks.task import Task


def list_tasks() -> list[str]:
    """The names of the built-in tasks."""
    return list(LISTED)


def as_task(given: object) -> Task:
    """A task, or the one that a name names.

    Raises:
        MetricgradError: for anything else, and an unknown name.
    """
    if isinstance(given, str):
        return get_task(given)
    if not isinstance(given, Task):
        of_table = ": mg.task_of_table(frame, target=..., metric=...)" if hasattr(given, "columns") else ""
        raise MetricgradError(f"task is a {type(given).__name__}; pass a task{of_table or ', or the name of one'}")
    return given


def get_task(name: str) -> Task:
    """A built-in task by its name, or one of the user's own as :func:`metricgrad.tasks.by_path.task_at` finds it.

    Raises:
        MetricgradError: for an unknown name, naming what is close.
    """
    if is_path(name):
        return task_at(name)
    if name not in LISTED:
        raise MetricgradError(
            f"unknown task {name!r}: {did_you_mean(name, LISTED)}; your own is a table.csv with --target, or "
            "path/to/file.py:task"
        )
    module, _, attribute = LISTED[name].where.partition(":")
    return getattr(importlib.import_module(f"metricgrad.tasks.{module}"), attribute)
