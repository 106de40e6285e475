"""The built-in tasks by name, imported when asked for."""

from __future__ import annotations

import importlib

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.tasks.by_path import is_path, task_at
from metricgrad.tasks.task import Task

_IMPORT_PATH = {
    "digits": "digits:digits",
    "digits-noisy": "digits:digits_noisy",
    "digits-rare": "digits:digits_rare",
    "breast-cancer": "tabular:breast_cancer",
    "diabetes": "tabular:diabetes",
    "fashion": "fashion:fashion",
    "fashion-rare": "fashion:fashion_rare",
    "digits-retrieval": "digits_retrieval:digits_retrieval",
}


def list_tasks() -> list[str]:
    """The names of the built-in tasks."""
    return list(_IMPORT_PATH)


def get_task(name: str) -> Task:
    """A built-in task by its name, or one of the user's own as :func:`metricgrad.tasks.by_path.task_at` finds it.

    Raises:
        MetricgradError: for an unknown name, naming what is close.
    """
    if is_path(name):
        return task_at(name)
    if name not in _IMPORT_PATH:
        raise MetricgradError(
            f"unknown task {name!r}: {did_you_mean(name, _IMPORT_PATH)}; your own is a table.csv with --target, or "
            "path/to/file.py:task"
        )
    module, _, attribute = _IMPORT_PATH[name].partition(":")
    return getattr(importlib.import_module(f"metricgrad.tasks.{module}"), attribute)
