"""The main job: tune every loss with the same budget, train with fresh seeds, score the test part once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from metricgrad.comparison.candidates import Candidate, Given, candidates
from metricgrad.comparison.config import config_of, identity
from metricgrad.comparison.ladder import ladder
from metricgrad.comparison.look import look, situation
from metricgrad.comparison.outcome import table_of
from metricgrad.comparison.plot import plot
from metricgrad.comparison.records import Records
from metricgrad.comparison.report.about import about
from metricgrad.comparison.report.page import write_report
from metricgrad.comparison.report.study_file import write_study
from metricgrad.comparison.runs.budget import Limit, seconds_of
from metricgrad.comparison.runs.claims import Claims
from metricgrad.comparison.runs.conduct import Conduct, Study
from metricgrad.comparison.runs.plan import Plan
from metricgrad.comparison.runs.running import Runner
from metricgrad.comparison.runs.workers import helped
from metricgrad.comparison.study_display import StudyDisplay
from metricgrad.comparison.table import Table
from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number
from metricgrad.metrics.metric import Metric
from metricgrad.tasks.registry import as_task
from metricgrad.tasks.task import Task
from metricgrad.training.delivery import Asked, check_decision


def compare(
    task: str | Task,
    *,
    metric: str | Metric | Callable[..., Any] | None = None,
    losses: Sequence[Given] | Literal["auto"] = ("cross_entropy", "uniloss"),
    trials: int = 20,
    seeds: int = 10,
    budget: str | float | None = None,
    jobs: int = 1,
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
    is there is used; where more trials find better hyper-parameters of a loss, its final runs are done again. A metric
    or a loss of your own is known by its code: with another body under the same name the folder is refused.

    **Decisions.** Every loss, cross-entropy first of all, is delivered under the decision that the metric asks for on
    its own validation scores (:func:`metricgrad.fit_decision`), and every value is there with it (``valid``, ``test``,
    ``mean``) and without (``valid_undecided``, ``test_undecided``, ``mean_undecided``: what ``decision="none"`` gives,
    at the epoch that is best so; on validation each row at the epoch that is best without it). Trials are compared by
    ``valid``: each validation row is decided by a decision fitted without it, so that a loss whose scores invite a
    decision that only fits them gains nothing by it; and a decision is taken only where its gain is above a standard
    error, else ``valid`` is ``valid_undecided``. What optimism is left, that of the epoch and of the best of two or
    three kinds, all losses share, and the test part has none of it.

    **The ladder.** ``losses="auto"`` compares the losses that the task asks for, each a rung over the simpler ones:
    the standard loss, with a decision, with class weights, the metric itself, what the data ask for (AdaLFL where the
    validation part is cleaner than the training part, ALA where classes are far from equal, ReLoss for sequences;
    LightGBM for tables), and the average of three trainings of the rung chosen among them. ``table.notes`` say what was
    left out and why.

    **The recommendation**, of every comparison, never goes by the best-looking mean: a rung is taken where its gain on
    validation over the rung taken before passes a paired, corrected one-sided test at 5 %, else the simpler one stays.
    A decision is taken also where the cross-validation of every seed took one.

    A run that diverges, or in which a metric of one's own raises, hangs or has no value, is a failed run: its line says
    why, the study goes on, and the table says how many there were.

    Args:
        task: a built-in task's name, ``path/to/file.py:task``, ``pkg.mod:task``, or a :class:`metricgrad.Task`.
        metric: what decides; by default the task's own.
        losses: names (``"uniloss"``, ``"cross_entropy:label_smoothing=0.1"``), modules, or factories of modules.
            Modules that are not ours are handed what torch's own losses take: see :mod:`metricgrad.losses.calling`.
            Where none is a standard loss, the task's standard loss joins as the baseline. Or ``"auto"``.
        trials: runs spent on tuning each loss.
        seeds: final runs of each loss; below 6 there is no verdict.
        budget: about how long it may take, as ``"10m"`` or in seconds; ``trials`` and ``seeds`` are then the most. It
            becomes a number of runs once, after every loss was trained once; ``out/plan.json`` keeps it, so that what
            follows is a function of the plan and the seeds, however often the study is cut. The parameters of each loss
            are then found by successive halving, as many draws for each.
        jobs: workers on this machine. Any number of machines and processes may make the same call with the same ``out``
            at the same time, where its file system has locks: they share the runs, a run of a worker that died is taken
            over, and each returns the table that one undisturbed worker would have.
        out: the folder for results.jsonl and compare.png.
        controls: add the metric-blind control to a comparison with a loss that is not a standard one.
        decision: ``"auto"``; ``"none"`` for plain readings throughout; or a kind that every loss gets, as in
            :func:`metricgrad.fit`.
        margin: a difference below it is none that matters, in the metric's units; by default 0.005 for a metric from 0
            to 1, and half a percent of the standard losses' mean for errors and metrics in units of their own.
        metric_timeout: seconds that one call of a metric that is not built in may take; None is no limit. A loop in
            Python, a sleep and a wait are interrupted; compiled code that neither returns nor lets go of Python's lock
            cannot be, whatever the limit.
        progress: on stderr, a table of the losses with the time left, or a line for each run where that is a file.
        command: what was typed, for the report; by default it names this call.

    Returns:
        A :class:`Table`.

    Raises:
        MetricgradError: for bad input, a folder in use or with another study, or a loss that diverged in all trials.
    """
    chosen = as_task(task)
    if trials < 1 or seeds < 1:
        raise MetricgradError(f"trials and seeds must be at least 1, got {trials} and {seeds}")
    if jobs < 1:
        raise MetricgradError(f"jobs is {jobs}; give the number of workers, 1 or more")
    if isinstance(losses, str) and losses != "auto":
        raise MetricgradError(f"losses is {losses!r}; give a list of losses, or 'auto'")
    if margin is not None:
        checked_number("margin", margin)
    check_decision(decision)
    if metric_timeout is not None:
        checked_number("metric_timeout", metric_timeout)
    limit = None if budget is None else Limit(seconds_of(budget), trials, seeds)
    judged_by = chosen.judged_by(metric)
    folder = Path(out)
    named = [] if losses == "auto" else candidates(losses, chosen, judged_by, controls=controls)
    display = StudyDisplay(chosen.name, folder, higher_is_better=judged_by.higher_is_better, shown=progress)
    with _one_thread(), display:
        plan = Plan(folder)
        found = None if named else plan.look(identity(chosen, judged_by), lambda: look(chosen, judged_by))
        asked = None if named else ladder(situation(chosen, judged_by, found))
        rows = candidates(asked.losses, chosen, judged_by, controls=controls) if asked else named
        config = config_of(chosen, judged_by, rows, decision, limit)
        runner = Runner(chosen, judged_by, decision, metric_timeout, folder)
        records = Records(folder, config)
        display.watch(records)
        conduct = Conduct(runner, records, Claims(folder), display, jobs)
        study = Study(rows, asked, trials, seeds, limit, found["seconds"] if found else 0.0)
        with helped(partial(conduct.whole, study, plan), jobs - 1):
            outcome = conduct.whole(study, plan)
        left_out = asked.left_out if asked else {}
        notes = [*(f"not on the ladder: {name}: {why}" for name, why in left_out.items()), *outcome.notes]
        table = table_of(chosen, judged_by, outcome.runs, margin, notes, folder)
        plot(table, folder / "compare.png")
        write_study(table, about(
            chosen, rows, metric=_written(metric if metric is not None else chosen.metric),
            command=command or _call(chosen, judged_by, named, trials, seeds, budget),
            trials=outcome.trials, halving=limit is not None, seeds=outcome.seeds,
            decision=str(config["decision"]), data={**chosen.origin, **config["data"]}, left_out=left_out,
        ))  # fmt: skip
        write_report(folder)
    return table


def _call(
    task: Task, metric: Metric, named: Sequence[Candidate], trials: int, seeds: int, budget: float | str | None
) -> str:
    """The call from Python, as far as it can be written down; no loss is named where the ladder was asked for."""
    said = [row.name for row in named if row.role != "control"] or "auto"
    limited = "" if budget is None else f", budget={budget!r}"
    asked = f"metric={metric.name!r}, losses={said!r}, trials={trials}, seeds={seeds}{limited}"
    return f"mg.compare({task.name!r}, {asked})"


def _written(metric: str | Metric | Callable[..., Any] | None) -> str | None:
    """A metric as a text that names it again; None for a function that was passed."""
    return metric.spec if isinstance(metric, Metric) else metric if isinstance(metric, str) else None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small models run faster on one thread, and sums keep their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
