"""A comparison conducted: whatever is left of its runs is trained and recorded, until nothing is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from metricgrad.comparison.candidates import Candidate, average
from metricgrad.comparison.ladder import Ladder, Rung
from metricgrad.comparison.outcome import Runs, steps_of
from metricgrad.comparison.recommendation import chosen, rungs_of
from metricgrad.comparison.records import Record, Records
from metricgrad.comparison.runs.agenda import Job, finals_left, trials_left, tuned
from metricgrad.comparison.runs.budget import MOST_DRAWS, Afforded, Cost, Limit, afforded
from metricgrad.comparison.runs.claims import Claims
from metricgrad.comparison.runs.plan import Plan
from metricgrad.comparison.runs.running import Runner
from metricgrad.comparison.runs.tuning import Halving, Search, Tuning
from metricgrad.comparison.study_display import StudyDisplay

_PAUSE = 0.2
AVERAGED = 3
"""Trainings whose scores the last rung of the ladder averages."""


@dataclass(frozen=True)
class Study:
    """What is asked for.

    Attributes:
        rows: what is compared.
        ladder: where the rungs are known before; else they follow from the rows.
        trials: whole runs to tune each by, or the most.
        seeds: final runs of each, or the most.
        limit: the budget, where there is one.
        looked: seconds that went before.
    """

    rows: Sequence[Candidate]
    ladder: Ladder | None
    trials: int
    seeds: int
    limit: Limit | None
    looked: float

    @property
    def averages(self) -> bool:
        """Whether several trainings of the chosen rung are averaged."""
        return self.ladder is not None and self.ladder.averages


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        runs: all of them.
        trials: of each row.
        seeds: final runs of each row.
        notes: to be said.
    """

    runs: Runs
    trials: int
    seeds: int
    notes: list[str]


@dataclass(frozen=True)
class Conduct:
    """What trains, where it is recorded, and who is told.

    Attributes:
        runner: makes a run.
        records: of the study.
        claims: of this worker.
        display: told of every run.
        jobs: workers, among whom the seconds of a budget are shared.
    """

    runner: Runner
    records: Records
    claims: Claims
    display: StudyDisplay
    jobs: int = 1

    def time(self, study: Study, limit: Limit) -> None:
        """Train every row at its defaults, and its first draw, which is shorter; a budget that is too short is said."""
        most = Halving(self.runner.metric.higher_is_better, MOST_DRAWS)

        def left() -> Iterator[Job]:
            self.display.note(self.exceeded(study, limit))
            return (job for job in trials_left(study.rows, most, self.records) if job.trial and job.trial.number < 2)

        self._finish(left)

    def afforded(self, study: Study, limit: Limit) -> Afforded:
        """What a budget buys, once every row was timed."""
        spent, costs, extra = self._timed(study)
        return afforded(replace(limit, seconds=self.jobs * limit.seconds), spent, costs, extra=extra)

    def exceeded(self, study: Study, limit: Limit) -> str | None:
        """That the budget is too short, as soon as it is known."""
        spent, costs, extra = self._timed(study)
        return limit.exceeded(spent, costs, extra=extra, jobs=self.jobs)

    def _timed(self, study: Study) -> tuple[float, dict[str, Cost], float]:
        """Seconds that went, what a run costs of the rows that were timed, and what a seed costs beside."""
        trials = {row.name: self.records.trials(row.name)[:2] for row in study.rows}
        costs = {name: Cost(*(one["seconds"] for one in timed)) for name, timed in trials.items() if len(timed) == 2}
        extra = AVERAGED * max((cost.whole for cost in costs.values()), default=0.0) if study.averages else 0.0
        return study.looked + sum(map(sum, costs.values())), costs, extra

    def whole(self, study: Study, plan: Plan) -> Outcome:
        """Everything, from what is there to the last run.

        Args:
            study: what is asked for.
            plan: of its folder.

        Raises:
            MetricgradError: for a loss that diverged in all trials.
        """
        higher, rows = self.runner.metric.higher_is_better, study.rows
        tuning, seeds, notes = Search(higher, study.trials), study.seeds, []
        if (limit := study.limit) is not None:
            if not plan.is_afforded:
                self.time(study, limit)
            bought = plan.afforded(lambda: self.afforded(study, limit))
            tuning, seeds = Halving(higher, bought["draws"]), bought["seeds"]
            notes = [limit.said(bought), *filter(None, [self.exceeded(study, limit)])]
        tried, finals = self.runs(rows, tuning, seeds)
        rungs, guarded = study.ladder.rungs if study.ladder else rungs_of(rows, finals), self.runner.decision == "auto"
        found = Runs(rows, rungs, tried, finals, guarded)
        return Outcome(self.averaged(found, tuning, seeds) if study.averages else found, tuning.total, seeds, notes)

    def runs(self, rows: Sequence[Candidate], tuning: Tuning, seeds: int) -> tuple[list[Record], list[Record]]:
        """All trials, and all final runs, by row."""
        records = self.records
        self.display.expect((tuning.total + seeds) * len(rows))
        params = lambda: {row.name: tuned(row, tuning, records) for row in rows}  # noqa: E731
        self._finish(lambda: chain(trials_left(rows, tuning, records), finals_left(rows, params(), seeds, records)))
        trials = [record for row in rows for record in tuning.counted(records.trials(row.name))]
        return trials, self._finals(rows, params(), seeds)

    def averaged(self, found: Runs, tuning: Tuning, seeds: int) -> Runs:
        """The same with one rung more, where a network was chosen: the average of three trainings of it."""
        task, metric = self.runner.task, self.runner.metric
        rung = found.rungs[chosen(steps_of(found, task, metric))]
        if rung.loss in task.learners:  # no network, whose start decides where it ends
            return found
        below = next(row for row in found.rows if row.name == rung.loss)
        row, params = average(below, AVERAGED), {}
        params[row.name] = tuned(below, tuning, self.records)
        self.display.expect((tuning.total + seeds) * len(found.rows) + seeds)
        self._finish(lambda: finals_left([row], params, seeds, self.records))
        finals = [*found.finals, *self._finals([row], params, seeds)]
        top = Rung(f"+ average of {AVERAGED}", row.name, decided=rung.decided)
        return replace(found, rows=[*found.rows, row], rungs=[*found.rungs, top], finals=finals)

    def _finals(
        self, rows: Sequence[Candidate], params: dict[str, dict[str, float] | None], seeds: int
    ) -> list[Record]:
        each = (self.records.run(row.name, seed, params[row.name] or {}) for row in rows for seed in range(seeds))
        return [record for record in each if record is not None]

    def _finish(self, left: Callable[[], Iterator[Job]]) -> None:
        """Train the first that is left and nobody else trains, until none is left."""
        while True:
            with self.records.held():
                self.display.look()
                job = next((job for job in left() if self.claims.take(job.name)), None)
                if job is None and next(left(), None) is None:
                    return
            if job is None:
                self.display.wait()
                time.sleep(_PAUSE)
                continue
            self.display.begin(job.row.name, job.words)
            with self.claims.kept(job.name):
                self.records.add(job.record(self.runner.run(job)))
