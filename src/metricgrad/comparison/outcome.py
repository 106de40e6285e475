"""From the runs of a comparison to its table: summary, ladder, recommendation, notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.climb import Step
from metricgrad.comparison.ladder import Rung
from metricgrad.comparison.recommendation import climbed, ladder_rows, recommendation
from metricgrad.comparison.records import Record
from metricgrad.comparison.summary import said_to_fail, summarise
from metricgrad.comparison.table import Table
from metricgrad.comparison.verdicts import default_margin, note_on_floor
from metricgrad.metrics.metric import Metric
from metricgrad.tasks.task import Task
from metricgrad.training.batches import is_pair


@dataclass(frozen=True)
class Runs:
    """What was run of a comparison.

    Attributes:
        rows: what was compared.
        rungs: from the simplest on.
        trials: of all rows.
        finals: of all rows, in their order, by seed.
        guarded: whether cross-validation chose each decision; not where the user did.
    """

    rows: Sequence[Candidate]
    rungs: Sequence[Rung]
    trials: Sequence[Record]
    finals: Sequence[Record]
    guarded: bool


def steps_of(runs: Runs, task: Task, metric: Metric) -> list[Step]:
    """The steps over the rungs, by validation values."""
    higher, ratio = metric.higher_is_better, _overlap(task, by="valid")
    return climbed(runs.rungs, runs.finals, higher_is_better=higher, ratio=ratio, guarded=runs.guarded)


def table_of(task: Task, metric: Metric, runs: Runs, margin: float | None, notes: Sequence[str], path: Path) -> Table:
    """The table of a comparison.

    Args:
        task: what was compared on.
        metric: what decides.
        runs: what was run.
        margin: as in :func:`metricgrad.compare`.
        notes: to be said at the end.
        path: the folder.
    """
    higher, ratio, seeds = metric.higher_is_better, _overlap(task), len({run["seed"] for run in runs.finals})
    if margin is None:
        standard = {row.name for row in runs.rows if row.standard}
        values = [run["test"] for run in runs.finals if run["loss"] in standard and run["test"] is not None]
        margin = default_margin(values, higher_is_better=higher)
    summary, said = summarise(runs.rows, runs.finals, higher_is_better=higher, ratio=ratio, margin=margin)
    floor = note_on_floor(summary, margin, ratio)
    failed = [said_to_fail(row.name, "trial", "valid", runs.trials) for row in runs.rows]
    said += [note for note in (floor, *failed, *notes) if note]
    if not task.redraws:
        said.append(
            "the test part is the same for every seed: intervals and p-values cover the randomness of training, "
            "not that of the test items"
        )
    costs = {row.name: _cost([r for r in (*runs.trials, *runs.finals) if r["loss"] == row.name]) for row in runs.rows}
    ladder = ladder_rows(runs.rungs, steps_of(runs, task, metric), runs.finals, costs)
    return Table(
        task.name, metric.name, higher, margin, list(runs.finals), summary, ladder,
        recommendation(ladder, metric.name, seeds), said, path,
    )  # fmt: skip


def _cost(records: Sequence[Record]) -> tuple[float, int]:
    """Seconds and runs."""
    return math.fsum(record["seconds"] or 0.0 for record in records), len(records)


def _overlap(task: Task, by: Literal["valid", "test"] = "test") -> float:
    """n_test / n_train of Nadeau and Bengio's correction, or n_valid / n_train; 0 where the parts are fixed."""
    if not task.redraws:
        return 0.0
    train, valid, test = task.load(0)
    parts = (valid if by == "valid" else test, train)
    sizes = [len(part[1]) if is_pair(part) else len(getattr(part, "dataset", part)) for part in parts]
    return sizes[0] / sizes[1]
