"""Losses and decisions on the development tables: cross-entropy, balanced and not, UniLoss, its control, LightGBM.

Every loss has the same trials, the same rule of choice and the same search for a decision; the test part is scored once
a draw, under the decision and without it. All of it is ``metricgrad.compare``. Studies go on where they stopped;
``--only`` runs some of them, and the table says which there are.
"""

from __future__ import annotations

from common import HERE, Store, arguments
from metricgrad import Task, compare
from tasks.tables.task import TASKS

TRIALS, SEEDS = 4, 8
LOSSES = ["cross_entropy", "cross_entropy:weighting=balanced", "uniloss", "lightgbm"]


def networks(tasks: dict[str, Task]) -> list[str]:
    """The tasks that are not a linear twin."""
    return [name for name in tasks if not name.endswith("_linear")]


def run(store: Store, tasks: dict[str, Task], asked: list[str], losses: list[str]) -> None:
    """Every study asked for, written as each ends."""
    found = {}
    for name in asked:
        table = compare(tasks[name], losses=losses, trials=TRIALS, seeds=SEEDS, out=HERE / "runs" / store.name / name)
        found[name] = {
            "metric": tasks[name].metric,
            "summary": [dict(row) for row in table.summary],
            "recommendation": table.recommendation,
            "seconds": {r["loss"]: r["seconds"] for r in table.runs},
        }
        store.finish(trials=TRIALS, studies=found)


if __name__ == "__main__":
    run(Store("tables_suite", SEEDS), TASKS, arguments(__doc__, list(TASKS), networks(TASKS)).only, LOSSES)
