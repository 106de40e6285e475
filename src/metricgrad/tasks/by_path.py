"""A task of the user's own: ``path/to/file.py:task`` or ``pkg.mod:task``, a Task or a function that returns one."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.metrics.adapters.source_file import module_of_file, put_on_path
from metricgrad.tasks.task import Task

T = TypeVar("T")


def is_path(spec: str) -> bool:
    """Whether it is no plain name."""
    return ":" in spec or spec.endswith(".py")


def task_at(spec: str) -> Task:
    """The task that a spec names. Its file is run, with its folder on ``sys.path`` as Python does for a script.

    Args:
        spec: ``path/to/file.py:task`` or ``pkg.mod:task``. A file in a package is imported as a part of it, so that it
            may import its neighbours by either way; a module may lie in the directory one stands in.

    Raises:
        MetricgradError: where there is no such file, module or name, where running it raises, naming the line, and
            for what is no Task and returns none.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise MetricgradError(f"task {spec!r} does not say what to take; write {spec.rstrip(':')}:NAME_OF_THE_TASK")
    source = Path(where)
    module = _run(spec, source, lambda: _of_file(spec, source) if where.endswith(".py") else _of_module(spec, where))
    if not hasattr(module, name):
        there = [each for each, value in vars(module).items() if isinstance(value, Task)]
        known = there or [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        hint = did_you_mean(name, known) if known else "there is no task in it"
        raise MetricgradError(f"task {spec!r}: {where} has no {name!r}: {hint}")
    found: Any = getattr(module, name)
    if not isinstance(found, Task) and callable(found) and not isinstance(found, type):
        found = _run(spec, Path(module.__file__ or where), found)
    if not isinstance(found, Task):
        raise MetricgradError(
            f"task {spec!r} is a {type(found).__name__}; expected a metricgrad.Task, or a function without arguments "
            "that returns one"
        )
    return found


def _of_file(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise MetricgradError(f"task {spec!r}: there is no file {path} (seen from {os.getcwd()})")
    return module_of_file(path)


def _of_module(spec: str, name: str) -> ModuleType:
    put_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise MetricgradError(
            f"task {spec!r}: there is no module {error.name!r}; write path/to/file.py:task, or a module that can be "
            "imported from where you stand"
        ) from error


def _run(spec: str, source: Path, action: Callable[[], T]) -> T:
    """What the user's code gives; what it raises is told with the line of the user's file that it came from."""
    try:
        return action()
    except MetricgradError as error:
        if str(error).startswith(f"task {spec!r}"):
            raise
        raise MetricgradError(f"task {spec!r}: {_line(error, source)}{error}") from error
    except Exception as error:
        said = error.msg if isinstance(error, SyntaxError) else error
        raise MetricgradError(f"task {spec!r}: {_line(error, source)}{type(error).__name__}: {said}") from error


def _line(error: Exception, source: Path) -> str:
    """Where in the user's own code it was raised: the last place that is in no library and not here."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    folder = source.resolve().parent if source.suffix == ".py" else Path.cwd()
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder) and Path(f.filename) != Path(__file__)]
    return f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""
