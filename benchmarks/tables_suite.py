"""Losses and decisions on the development tables: cross-entropy, balanced and not, UniLoss, its control, LightGBM.

Every loss has the same trials, the same rule of choice and the same search for a decision; the test part is scored once
a draw, under the decision and without it. All of it is ``metricgrad.compare``. Studies go on where they stopped;
``--only`` runs some of them, and the table says which there are.
"""

from __future__ import annotations

from common import HERE, Store, arguments
from metricgrad import compare
from tasks.tables.task import TASKS

TRIALS, SEEDS = 4, 8
LOSSES = ["cross_entropy", "cross_entropy:weighting=balanced", "uniloss", "lightgbm"]


def main() -> None:
    """Run what is missing, write the JSON."""
    asked = arguments(__doc__, list(TASKS), [name for name in TASKS if not name.endswith("_linear")]).only
    store = Store("tables_suite", SEEDS)
    found = {}
    for name in asked:
        out = HERE / "runs" / "tables" / name
        table = compare(TASKS[name], losses=LOSSES, trials=TRIALS, seeds=SEEDS, out=out)
        found[name] = {
            "metric": TASKS[name].metric,
            "summary": [dict(row) for row in table.summary],
            "recommendation": table.recommendation,
            "seconds": {r["loss"]: r["seconds"] for r in table.runs},
        }
        store.finish(trials=TRIALS, studies=found)


if __name__ == "__main__":
    main()
