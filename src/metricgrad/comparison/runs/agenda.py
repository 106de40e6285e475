"""What is left to train of a comparison: a function of its plan and of the runs already recorded.

So it does not matter who trains what, when, and how often a study was cut: the same runs are asked for, with the same
parameters and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.records import Record, Records
from metricgrad.comparison.runs.tuning import Trial, Tuning
from metricgrad.comparison.summary import diverged
from metricgrad.errors import MetricgradError

TUNING_SEED = 1_000_000
"""The draw all trials share; no final seed reaches it."""


@dataclass(frozen=True)
class Job:
    """One run to be trained.

    Attributes:
        row: what is trained.
        params: with these parameters.
        seed: of the draw of the parts, and of everything random.
        trial: which trial it is; None for a final run, which is scored on the test part.
    """

    row: Candidate
    params: dict[str, float]
    seed: int
    trial: Trial | None = None

    @property
    def share(self) -> float:
        """How much of a whole training."""
        return 1.0 if self.trial is None else self.trial.share

    @property
    def name(self) -> str:
        """Tells it from every other run of its study."""
        return f"{self.row.name}, {self.words}, {json.dumps(self.params, sort_keys=True)}"

    @property
    def words(self) -> str:
        """Which of its loss's runs it is, for people."""
        return f"seed {self.seed}" if self.trial is None else f"trial {self.trial.number + 1}"

    def record(self, outcome: dict[str, Any]) -> Record:
        """The line of the results."""
        if self.trial is None:
            number: dict[str, Any] = {"seed": self.seed}
        else:
            number = {"trial": self.trial.number, **({} if self.share == 1 else {"share": self.share})}
        return {"loss": self.row.name, "role": self.row.role, **number, **outcome, "params": self.params}


def trials_left(rows: Sequence[Candidate], tuning: Tuning, records: Records) -> Iterator[Job]:
    """The trials that can be run now, in the order of the rows."""
    for row in rows:
        done = tuning.counted(records.trials(row.name))
        for trial in tuning.ready(row.space, done):
            yield Job(row, trial.params, TUNING_SEED, trial)


def tuned(row: Candidate, tuning: Tuning, records: Records) -> dict[str, float] | None:
    """The parameters of the best trial, the first's where the metric failed in all; None while some are missing.

    Raises:
        MetricgradError: where the loss diverged in all of them.
    """
    done = tuning.counted(records.trials(row.name))
    if len(done) < tuning.total:
        return None
    if (best := tuning.best(done)) is not None:
        return best["params"]
    if all(diverged(record) for record in done):
        raise MetricgradError(
            f"loss {row.name!r} diverged in all {len(done)} trials; lower the task's learning rates, or leave it out"
        )
    return done[0]["params"]


def finals_left(
    rows: Sequence[Candidate], params: dict[str, dict[str, float] | None], seeds: int, records: Records
) -> Iterator[Job]:
    """The final runs that can be trained now: those of losses whose parameters are known."""
    for row in rows:
        found = params[row.name]
        if found is not None:
            for seed in range(seeds):
                if records.run(row.name, seed, found) is None:
                    yield Job(row, found, seed)
