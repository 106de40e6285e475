"""What ``losses="auto"`` makes of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import interval, paired
from metricgrad import Task, compare
from metricgrad.comparison.table import Table


def climbed(task: Task, trials: int, seeds: int, out: Path, *, metric: str | None = None) -> dict[str, Any]:
    """What the ladder recommends, and its test values beside those of its first rung with its decision.

    Args:
        task: what it climbs on.
        trials: of each loss.
        seeds: draws of the split.
        out: of the study; runs that are there are not run again.
        metric: None: the task's own.
    """
    table = compare(task, metric=metric, losses="auto", trials=trials, seeds=seeds, out=out)
    said, rungs = table.recommendation, [row["loss"] for row in table.ladder]
    ours, base = _tests(table, said["loss"], said["decision"]), _tests(table, rungs[0], "its own")
    train, _, test = task.load(0)
    overlap = len(test[1]) / len(train[1])
    return {
        **said, "rungs": rungs, "test": interval(ours, overlap),
        "difference": paired(ours, base, overlap),
    }  # fmt: skip


def _tests(table: Table, loss: str, decision: str) -> list[float]:
    reading = "test_undecided" if decision == "none" else "test"
    runs = sorted((run for run in table.runs if run["loss"] == loss), key=lambda run: run["seed"])
    return [run[reading] for run in runs]
