"""What a reader asks of a study that its table does not say: of which data, by which command, and what was left out."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.report.study_file import About
from metricgrad.metrics.spec import parse_spec
from metricgrad.systems.by_name import REGISTRY
from metricgrad.tasks.task import Task
from metricgrad.version import __version__

_LIBRARIES = ("torch", "lightning", "torchmetrics", "scikit-learn", "numpy", "lightgbm")


def about(
    task: Task, rows: Sequence[Candidate], *, metric: str | None, command: str, trials: int, halving: bool,
    seeds: int, decision: str, data: dict[str, str], left_out: Mapping[str, str],
) -> About:  # fmt: skip
    """What is known of a study when it ends.

    Args:
        task: what was compared on.
        rows: the losses that were compared.
        metric: what decided, where a text says it.
        command: what was typed, or the call from Python.
        trials: runs spent on tuning each loss.
        halving: whether most of them were shorter than a whole training.
        seeds: final runs of each loss.
        decision: what was asked for.
        data: a checksum of each part.
        left_out: what the task does not ask for, and why.
    """
    return About(
        command=command,
        versions={"metricgrad": __version__, "Python": platform.python_version(), **_installed()},
        kind=task.kind,
        trials=trials,
        halving=halving,
        seeds=seeds,
        epochs=task.epochs,
        decision=decision,
        understood=task.describe(),
        options={**task.options, **({} if metric is None else {"metric": metric})},
        columns=dict(task.columns),
        classes=list(task.class_names),
        data=data,
        not_tried={**_not_tried(task, rows, decision), **left_out},
    )


def _installed() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _not_tried(task: Task, rows: Sequence[Candidate], decision: str) -> dict[str, str]:
    """Losses that serve such a task and were not compared, each with what it is."""
    tried = {parse_spec(row.name)[0] for row in rows}
    found = {name: learner.summary for name, learner in task.learners.items() if name not in tried}
    found |= {
        name: entry.summary
        for name, entry in sorted(REGISTRY.items())
        if task.kind in entry.kinds and entry.role == "candidate" and name not in tried
    }
    if decision == "none":
        found = {"decisions": "every loss was read plainly, as --decision none asks for", **found}
    return found
