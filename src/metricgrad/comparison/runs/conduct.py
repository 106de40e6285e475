"""A comparison conducted: whatever is left of its runs is trained and recorded, until nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from metricgrad.comparison.candidates import Candidate, average
from metricgrad.comparison.ladder import Rung
from metricgrad.comparison.outcome import Runs, steps_of
from metricgrad.comparison.recommendation import chosen
from metricgrad.comparison.records import Record, Records
from metricgrad.comparison.runs.agenda import Job, finals_left, trials_left, tuned
from metricgrad.comparison.runs.budget import MOST_DRAWS, Afforded, Cost, Limit, afforded
from metricgrad.comparison.runs.running import Runner
from metricgrad.comparison.runs.tuning import Halving, Tuning
from metricgrad.progress import ProgressBar

AVERAGED = 3
"""Trainings whose scores the last rung of the ladder averages."""


@dataclass(frozen=True)
class Conduct:
    """What trains, where it is recorded, and who is told.

    Attributes:
        runner: makes a run.
        records: of the study.
        bar: told of every run.
    """

    runner: Runner
    records: Records
    bar: ProgressBar

    def afforded(self, rows: Sequence[Candidate], limit: Limit, looked: float, *, averages: bool) -> Afforded:
        """What a budget buys, once every row was timed: at its defaults, and at its first draw, which is shorter.

        Args:
            rows: what is compared.
            limit: the budget.
            looked: seconds that went before.
            averages: whether the chosen rung is averaged.
        """
        most = Halving(self.runner.metric.higher_is_better, MOST_DRAWS)
        self._finish(
            lambda: (job for job in trials_left(rows, most, self.records) if job.trial and job.trial.number < 2)
        )
        timed = {row.name: self.records.trials(row.name)[:2] for row in rows}
        costs = {name: Cost(*(record["seconds"] for record in records)) for name, records in timed.items()}
        extra = AVERAGED * max(cost.whole for cost in costs.values()) if averages else 0.0
        return afforded(limit, looked + sum(map(sum, costs.values())), costs, extra=extra)

    def runs(self, rows: Sequence[Candidate], tuning: Tuning, seeds: int) -> tuple[list[Record], list[Record]]:
        """All trials, and all final runs, by row.

        Args:
            rows: what is compared.
            tuning: how their parameters are found.
            seeds: final runs of each.

        Raises:
            MetricgradError: for a loss that diverged in all trials.
        """
        records = self.records
        there = sum(len(tuning.counted(records.trials(row.name))) for row in rows)
        self.bar.expect((tuning.total + seeds) * len(rows) - there)
        params = lambda: {row.name: tuned(row, tuning, records) for row in rows}  # noqa: E731
        self._finish(lambda: chain(trials_left(rows, tuning, records), finals_left(rows, params(), seeds, records)))
        trials = [record for row in rows for record in tuning.counted(records.trials(row.name))]
        return trials, self._finals(rows, params(), seeds)

    def averaged(self, found: Runs, tuning: Tuning, seeds: int) -> Runs:
        """The same with one rung more, where a network was chosen: the average of three trainings of it."""
        task, metric = self.runner.task, self.runner.metric
        rung = found.rungs[chosen(steps_of(found.rungs, found.finals, task, metric))]
        if rung.loss in task.learners:  # no network, whose start decides where it ends
            return found
        below = next(row for row in found.rows if row.name == rung.loss)
        row, params = average(below, AVERAGED), {}
        params[row.name] = tuned(below, tuning, self.records)
        self.bar.expect(seeds)
        self._finish(lambda: finals_left([row], params, seeds, self.records))
        finals = [*found.finals, *self._finals([row], params, seeds)]
        top = Rung(f"+ average of {AVERAGED}", row.name, decided=rung.decided)
        return Runs([*found.rows, row], [*found.rungs, top], found.trials, finals)

    def _finals(
        self, rows: Sequence[Candidate], params: dict[str, dict[str, float] | None], seeds: int
    ) -> list[Record]:
        each = (self.records.run(row.name, seed, params[row.name] or {}) for row in rows for seed in range(seeds))
        return [record for record in each if record is not None]

    def _finish(self, left: Callable[[], Iterator[Job]]) -> None:
        """Train the first that is left, until none is."""
        while (job := next(left(), None)) is not None:
            self.bar.say(f"{self.runner.task.name}: {job.words}")
            self.records.add(job.record(self.runner.run(job)))
            self.bar.advance()
