"""Losses and decisions on the development tables: standard losses, UniLoss old and new, its control, LightGBM, auto.

Every loss has the same trials, the same rule of choice and the same search for a decision; the test part is scored once
a draw, under the decision and without it. All of it is ``metricgrad.compare``. ``losses="auto"`` then climbs its ladder
on the same runs, and adds those it asks for. Studies go on where they stopped; ``--only`` runs some of them, and those
that it leaves out stay as they were written last.
"""

from __future__ import annotations

from typing import Any

from climbs import climbed
from common import HERE, Store, arguments
from metricgrad import Task, compare
from tasks.tables.task import TASKS

TRIALS, SEEDS = 4, 8
LOSSES = [
    "cross_entropy", "cross_entropy:weighting=balanced", "uniloss", "lightgbm", "focal", "uniloss:anchored=False",
]  # fmt: skip


def networks(tasks: dict[str, Task]) -> list[str]:
    """The tasks that are not a linear twin."""
    return [name for name in tasks if not name.endswith("_linear")]


def study(store: Store, task: Task, name: str, losses: list[str]) -> dict[str, Any]:
    """What the report needs of the comparison of named losses."""
    table = compare(task, losses=losses, trials=TRIALS, seeds=SEEDS, out=HERE / "runs" / store.name / name)
    return {
        "metric": task.metric,
        "summary": [dict(row) for row in table.summary],
        "recommendation": table.recommendation,
        "seconds": {r["loss"]: r["seconds"] for r in table.runs},
    }


if __name__ == "__main__":
    store = Store("tables_suite", SEEDS)
    found = store.kept("studies")
    for name in arguments(__doc__, list(TASKS), networks(TASKS)).only:
        found[name] = study(store, TASKS[name], name, LOSSES)
        found[name]["auto"] = climbed(TASKS[name], TRIALS, SEEDS, HERE / "runs" / store.name / name)
        store.finish(trials=TRIALS, studies={name: found[name] for name in TASKS if name in found})
