"""The main job: tune every loss with the same budget, train with fresh seeds, score the test part once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.comparison.candidates import Candidate, Given, candidates
from metricgrad.comparison.plot import plot
from metricgrad.comparison.proposals import propose
from metricgrad.comparison.recommendation import climbed, ladder_rows, recommendation, rungs_of
from metricgrad.comparison.records import SCHEMA, Record, Records, locked
from metricgrad.comparison.report import evidence_file
from metricgrad.comparison.report.about import about
from metricgrad.comparison.report.evidence import gather
from metricgrad.comparison.report.page import write_report
from metricgrad.comparison.report.study_file import write_study
from metricgrad.comparison.summary import DIVERGED, diverged, said_to_fail, summarise
from metricgrad.comparison.table import Table
from metricgrad.comparison.verdicts import default_margin, note_on_floor
from metricgrad.decisions.base import Judged
from metricgrad.errors import FailedRunError, MetricgradError
from metricgrad.losses.batches import checked_number
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.time_limit import MetricFailedError, time_limit
from metricgrad.progress import ProgressBar
from metricgrad.tasks.registry import get_task
from metricgrad.tasks.task import Task
from metricgrad.training.batches import is_pair
from metricgrad.training.delivery import Asked, check_decision, describe_decision
from metricgrad.training.engine import DivergedError
from metricgrad.training.files import describe_data, describe_model
from metricgrad.training.fit import fit
from metricgrad.training.options import made_by
from metricgrad.version import __version__

TUNING_SEED = 1_000_000
"""The draw all trials share; no final seed reaches it."""


def compare(
    task: str | Task,
    *,
    metric: str | Metric | Callable[..., Any] | None = None,
    losses: Sequence[Given] = ("cross_entropy", "uniloss"),
    trials: int = 20,
    seeds: int = 10,
    out: str | Path = "runs/compare",
    controls: bool = True,
    decision: Asked = "auto",
    margin: float | None = None,
    metric_timeout: float | None = None,
    progress: bool = True,
    command: str | None = None,
) -> Table:
    """Compare losses on a task by a metric, and say in words what the comparison shows.

    Every loss gets the same number of trials over the same learning rates and weight decays, beside its own
    hyper-parameters, and the same first guesses; the trial best by the validation metric is trained again with fresh
    seeds, each of which also redraws the split; the test part is scored once for each seed. The difference from the
    best standard loss (by validation) is tested seed by seed with Nadeau and Bengio's correction for shared items.

    Every run is one line in ``out/results.jsonl``. A comparison that was killed goes on where it stopped, with the
    numbers an undisturbed one would give; more trials, seeds or losses may be asked for later in the same folder. What
    is there is used; where more trials find better hyper-parameters of a loss, its final runs are done again.

    **Decisions.** Every loss, cross-entropy first of all, is delivered under the decision that the metric asks for on
    its own validation scores (:func:`metricgrad.fit_decision`), and every value is there with it (``valid``, ``test``,
    ``mean``) and without (``valid_undecided``, ``test_undecided``, ``mean_undecided``). Trials are compared by
    ``valid``: each validation row is decided by a decision fitted without it, so that a loss whose scores invite a
    decision that only fits them gains nothing by it; and a decision is taken only where its gain is above a standard
    error, else ``valid`` is ``valid_undecided``. What optimism is left, that of the best epoch and of the best of two
    or three kinds, all losses share, and the test part has none of it.

    A run that diverges, or in which a metric of one's own raises, hangs or has no value, is a failed run: its line says
    why, the study goes on, and the table says how many there were.

    Args:
        task: a built-in task's name, ``path/to/file.py:task``, ``pkg.mod:task``, or a :class:`metricgrad.Task`.
        metric: what decides; by default the task's own.
        losses: names (``"uniloss"``, ``"cross_entropy:label_smoothing=0.1"``), modules, or factories of modules.
            Modules that are not ours are handed what torch's own losses take: see :mod:`metricgrad.losses.calling`.
            Where none is a standard loss, the task's standard loss joins as the baseline.
        trials: runs spent on tuning each loss.
        seeds: final runs of each loss; below 6 there is no verdict.
        out: the folder for results.jsonl and compare.png.
        controls: add the metric-blind control to a comparison with a loss that is not a standard one.
        decision: ``"auto"``; ``"none"`` for plain readings throughout; or a kind that every loss gets, as in
            :func:`metricgrad.fit`.
        margin: a difference below it is none that matters, in the metric's units; by default 0.005 for a metric from 0
            to 1, and half a percent of the standard losses' mean for errors and metrics in units of their own.
        metric_timeout: seconds that one call of a metric that is not built in may take; None is no limit. A loop in
            Python, a sleep and a wait are interrupted; compiled code that neither returns nor lets go of Python's lock
            cannot be, whatever the limit.
        progress: a progress bar on stderr.
        command: what was typed, for the report; by default it names this call.

    Returns:
        A :class:`Table`.

    Raises:
        MetricgradError: for bad input, a folder in use or with another study, or a loss that diverged in all trials.
    """
    chosen = get_task(task) if isinstance(task, str) else task
    if trials < 1 or seeds < 1:
        raise MetricgradError(f"trials and seeds must be at least 1, got {trials} and {seeds}")
    if margin is not None:
        checked_number("margin", margin)
    check_decision(decision)
    if metric_timeout is not None:
        checked_number("metric_timeout", metric_timeout)
    judged_by = chosen.judged_by(metric)
    rows = candidates(losses, chosen, judged_by, controls=controls)
    folder = Path(out)
    threads = torch.get_num_threads()
    with locked(folder), ProgressBar((trials + seeds) * len(rows), "", unit="run", patience=0, shown=progress) as bar:
        config = _config(chosen, judged_by, rows, decision)
        records = Records(folder, config)
        torch.set_num_threads(1)  # small models run faster on one, and sums keep their order
        study = _Study(chosen, judged_by, decision, records, bar, metric_timeout)
        try:
            tuned = {row.name: study.tune(row, trials) for row in rows}
            runs = [study.final(row, tuned[row.name], seed) for row in rows for seed in range(seeds)]
        finally:
            torch.set_num_threads(threads)
        summary, notes, margin = _summarised(chosen, judged_by, rows, runs, margin)
        tried = [record for row in rows for record in records.trials(row.name)[:trials]]
        notes += [note for row in rows if (note := said_to_fail(row.name, "trial", "valid", tried))]
        if not chosen.redraws:
            notes.append(
                "the test part is the same for every seed: intervals and p-values cover the randomness of training, "
                "not that of the test items"
            )
        costs = {row.name: _cost([*records.trials(row.name)[:trials], *_of(row, runs)]) for row in rows}
        rungs = rungs_of(rows, runs)
        steps = climbed(rungs, runs, higher_is_better=judged_by.higher_is_better, ratio=_overlap(chosen, by="valid"))
        ladder = ladder_rows(rungs, steps, runs, costs)
        table = Table(
            chosen.name, judged_by.name, judged_by.higher_is_better, margin, runs, summary, ladder,
            recommendation(ladder, judged_by.name, seeds), notes, folder,
        )  # fmt: skip
        plot(table, folder / "compare.png")
        write_study(table, about(
            chosen, judged_by, rows, command=command, trials=trials, seeds=seeds, decision=str(config["decision"]),
            data=config["data"],
        ))  # fmt: skip
        write_report(folder)
    return table


def _summarised(
    task: Task, metric: Metric, rows: Sequence[Candidate], runs: Sequence[Record], margin: float | None
) -> tuple[list[dict[str, Any]], list[str], float]:
    """Summary, notes and the margin they go by."""
    higher, ratio = metric.higher_is_better, _overlap(task)
    if margin is None:
        standard = {row.name for row in rows if row.standard}
        values = [run["test"] for run in runs if run["loss"] in standard and run["test"] is not None]
        margin = default_margin(values, higher_is_better=higher)
    summary, notes = summarise(rows, runs, higher_is_better=higher, ratio=ratio, margin=margin)
    if floor := note_on_floor(summary, margin, ratio):
        notes = [*notes, floor]
    return summary, notes, margin


def _config(task: Task, metric: Metric, rows: Sequence[Candidate], decision: Asked) -> dict[str, Any]:
    with kept_all_randomness():
        model = describe_model(made_by(task.model, f"task {task.name!r}: model"))
    return {
        "schema": SCHEMA,
        "version": __version__,
        "task": task.name,
        "metric": metric.spec or metric.name,
        "decision": describe_decision(decision),
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        **({} if task.per_class is None else {"per_class": task.per_class}),
        "model": model,
        "data": dict(zip(("train", "valid", "test"), map(describe_data, task.load(0)), strict=True)),
        "losses": {row.name: row.what for row in rows},
        "spaces": {row.name: {name: asdict(bounds) for name, bounds in row.space.items()} for row in rows},
    }


@dataclass(frozen=True)
class _Study:
    """The runs of one comparison; those that are in its records are not done again."""

    task: Task
    metric: Metric
    decision: Asked
    records: Records
    bar: ProgressBar
    metric_timeout: float | None

    def tune(self, row: Candidate, trials: int) -> dict[str, float]:
        """The parameters of the best trial; the defaults where the metric failed in all of them."""
        for number in range(trials):
            done = self.records.trials(row.name)
            if number not in {record["trial"] for record in done}:
                self.bar.say(f"{self.task.name}: {row.name}, trial {number + 1} of {trials}")
                before = [record for record in done if record["trial"] < number]
                params = propose(row.space, before, seed=0, maximise=self.metric.higher_is_better)
                outcome = self._run(row, params, TUNING_SEED, test=False)
                self.records.add({"loss": row.name, "role": row.role, "trial": number, **outcome, "params": params})
            self.bar.advance()
        done = self.records.trials(row.name)[:trials]
        found = [record for record in done if record["valid"] is not None]
        if found:
            best = max if self.metric.higher_is_better else min
            return best(found, key=lambda record: record["valid"])["params"]
        if all(diverged(record) for record in done):
            raise MetricgradError(
                f"loss {row.name!r} diverged in all {trials} trials; lower the task's learning rates, or leave it out"
            )
        return done[0]["params"]

    def final(self, row: Candidate, params: dict[str, float], seed: int) -> Record:
        """The run of a seed, scored on the test part."""
        record = self.records.run(row.name, seed, params)
        if record is None:
            self.bar.say(f"{self.task.name}: {row.name}, seed {seed}")
            outcome = self._run(row, params, seed, test=True, shown=seed == evidence_file.SEED)
            record = self.records.add({"loss": row.name, "role": row.role, "seed": seed, **outcome, "params": params})
        self.bar.advance()
        return record

    def _run(
        self, row: Candidate, params: dict[str, float], seed: int, *, test: bool, shown: bool = False
    ) -> dict[str, Any]:
        """One training: its values with and without its decision, on test where asked for; why it failed, if it did.

        Of the run that is shown, what the report draws is kept before its line is written.
        """
        task = self.task
        train, valid, held_out = task.load(seed)
        parts = ("valid", "test") if test else ("valid",)
        outcome: dict[str, Any] = {part + reading: None for part in parts for reading in ("", "_undecided")}
        outcome["decision"] = None
        started = time.perf_counter()
        with kept_all_randomness(), time_limit(self.metric_timeout) as limit:
            torch.manual_seed(seed)
            try:
                loss = row.of(params, seed, train)
                result = fit(
                    task.model(), train, valid, metric=self.metric, loss=loss, lr=params["lr"],
                    weight_decay=params["weight_decay"], epochs=task.epochs, batch_size=task.batch_size, seed=seed,
                    per_class=task.per_class, progress=False, device=task.device, decision=self.decision,
                )  # fmt: skip
                outcome["decision"] = result.decision.kind
                outcome |= self._both("valid", Judged(result.valid, result.valid_undecided))
                if test:
                    outcome |= self._both("test", result.evaluate_both(held_out))
                outcome["seconds"] = time.perf_counter() - started
            except DivergedError as error:
                outcome["failed"] = f"{DIVERGED}{error}"
            except MetricgradError as error:
                # code that carried on after a call that took too long may have met something else then
                if not isinstance(error, FailedRunError) and not (limit and limit.expired):
                    raise
                outcome["failed"] = str(limit.error()) if limit and limit.expired else str(error)
            else:
                if shown:
                    found = gather(loss, result, valid, held_out, task.kind)
                    evidence_file.keep(self.records.path.parent, row.name, params, found)
        outcome.setdefault("seconds", time.perf_counter() - started)
        return outcome

    def _both(self, part: str, found: Judged) -> dict[str, float | None]:
        if not math.isfinite(found.decided):
            where = "the test part" if part == "test" else part
            raise MetricFailedError(f"metric {self.metric.name!r} was {found.decided} on {where}")
        undecided = found.undecided if math.isfinite(found.undecided) else None
        return {part: found.decided, f"{part}_undecided": undecided}


def _of(row: Candidate, runs: Sequence[Record]) -> list[Record]:
    return [run for run in runs if run["loss"] == row.name]


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
