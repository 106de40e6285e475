"""The main job: tune every loss with the same budget, train with fresh seeds, score the test part once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from metricgrad.comparison.bar import Progress
from metricgrad.comparison.candidates import Candidate, Given, candidates
from metricgrad.comparison.plot import plot
from metricgrad.comparison.proposals import propose
from metricgrad.comparison.records import Record, Records, locked
from metricgrad.comparison.summary import summarise
from metricgrad.comparison.table import Table
from metricgrad.errors import MetricgradError
from metricgrad.metric import Metric
from metricgrad.tasks.registry import get_task
from metricgrad.tasks.task import Task
from metricgrad.training.batches import is_pair
from metricgrad.training.engine import DivergedError
from metricgrad.training.files import describe_data, describe_model
from metricgrad.training.fit import fit

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
    progress: bool = True,
) -> Table:
    """Compare losses on a task by a metric, and say in words what the comparison shows.

    Every loss gets the same number of trials over the same learning rates and weight decays, beside its own
    hyper-parameters, and the same first guesses; the trial best by the validation metric is trained again with fresh
    seeds, each of which also redraws the split; the test part is scored once for each seed. The difference from the
    best standard loss (by validation) is tested seed by seed with Nadeau and Bengio's correction for shared items.

    Every run is one line in ``out/results.jsonl``. A comparison that was killed goes on where it stopped, with the
    numbers an undisturbed one would give; more seeds or losses may be asked for later in the same folder.

    Args:
        task: a built-in task's name, or a :class:`metricgrad.Task`.
        metric: what decides; by default the task's own.
        losses: names (``"uniloss"``, ``"cross_entropy:label_smoothing=0.1"``), modules, or factories of modules.
            Modules that are not ours are handed what torch's own losses take: see :mod:`metricgrad.losses.calling`.
            Where none is a standard loss, the task's standard loss joins as the baseline.
        trials: runs spent on tuning each loss.
        seeds: final runs of each loss; below 6 there is no verdict.
        out: the folder for results.jsonl and compare.png.
        controls: add the metric-blind control to a comparison with a loss that is not a standard one.
        progress: a progress bar on stderr.

    Returns:
        A :class:`Table`.

    Raises:
        MetricgradError: for bad input, a folder in use or with another study, or a loss that diverged in all trials.
    """
    chosen = get_task(task) if isinstance(task, str) else task
    if trials < 1 or seeds < 1:
        raise MetricgradError(f"trials and seeds must be at least 1, got {trials} and {seeds}")
    judged_by = chosen.judged_by(metric)
    rows = candidates(losses, chosen, judged_by, controls=controls)
    folder = Path(out)
    threads = torch.get_num_threads()
    with locked(folder), Progress((trials + seeds) * len(rows), shown=progress) as bar:
        records = Records(folder, _config(chosen, judged_by, rows, trials))
        torch.set_num_threads(1)  # small models run faster on one, and sums keep their order
        try:
            tuned = {row.name: _tune(chosen, judged_by, row, trials, records, bar) for row in rows}
            runs = [
                _final(chosen, judged_by, row, tuned[row.name], seed, records, bar)
                for row in rows
                for seed in range(seeds)
            ]
        finally:
            torch.set_num_threads(threads)
        summary, notes = summarise(rows, runs, higher_is_better=judged_by.higher_is_better, ratio=_overlap(chosen))
        if not chosen.redraws:
            notes.append(
                "the test part is the same for every seed: intervals and p-values cover the randomness of training, "
                "not that of the test items"
            )
        table = Table(chosen.name, judged_by.name, judged_by.higher_is_better, runs, summary, notes, folder)
        plot(table, folder / "compare.png")
    return table


def _config(task: Task, metric: Metric, rows: Sequence[Candidate], trials: int) -> dict[str, Any]:
    from metricgrad import __version__

    with isolate_rng():
        model = describe_model(task.model())
    return {
        "version": __version__,
        "task": task.name,
        "metric": metric.spec or metric.name,
        "trials": trials,
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        **({} if task.per_class is None else {"per_class": task.per_class}),
        "model": model,
        "data": dict(zip(("train", "valid", "test"), map(describe_data, task.load(0)), strict=True)),
        "losses": {row.name: row.what for row in rows},
        "spaces": {row.name: {name: asdict(bounds) for name, bounds in row.space.items()} for row in rows},
    }


def _tune(task: Task, metric: Metric, row: Candidate, trials: int, records: Records, bar: Progress) -> dict[str, float]:
    for number in range(trials):
        done = records.trials(row.name)
        if number < len(done):
            bar.advance()
            continue
        bar.say(f"{task.name}: {row.name}, trial {number + 1} of {trials}")
        params = propose(row.space, done, seed=0, maximise=metric.higher_is_better)
        outcome = _run(task, metric, row, params, TUNING_SEED, test=False)
        records.add({"loss": row.name, "role": row.role, "trial": number, **outcome, "params": params})
        bar.advance()
    done = [record for record in records.trials(row.name)[:trials] if record["valid"] is not None]
    if not done:
        raise MetricgradError(
            f"loss {row.name!r} diverged in all {trials} trials; lower the task's learning rates, or leave it out"
        )
    return (max if metric.higher_is_better else min)(done, key=lambda record: record["valid"])["params"]


def _final(
    task: Task, metric: Metric, row: Candidate, params: dict[str, float], seed: int, records: Records, bar: Progress
) -> Record:
    record = records.run(row.name, seed)
    if record is None:
        bar.say(f"{task.name}: {row.name}, seed {seed}")
        outcome = _run(task, metric, row, params, seed, test=True)
        record = records.add({"loss": row.name, "role": row.role, "seed": seed, **outcome, "params": params})
    bar.advance()
    return record


def _run(
    task: Task, metric: Metric, row: Candidate, params: dict[str, float], seed: int, *, test: bool
) -> dict[str, float | None]:
    """One training: its validation value, its test value where asked for, its seconds; None where it diverged."""
    train, valid, held_out = task.load(seed)
    outcome: dict[str, float | None] = {"valid": None, "test": None, "seconds": None}
    started = time.perf_counter()
    with isolate_rng():
        torch.manual_seed(seed)
        try:
            result = fit(
                task.model(), train, valid, metric=metric, loss=row.of(params, seed, train), lr=params["lr"],
                weight_decay=params["weight_decay"], epochs=task.epochs, batch_size=task.batch_size, seed=seed,
                per_class=task.per_class, progress=False, device=task.device,
            )  # fmt: skip
            outcome["valid"] = result.valid
            if test:
                value = result.evaluate(held_out)
                outcome["test"] = None if math.isnan(value) else value
        except DivergedError:
            pass
    outcome["seconds"] = time.perf_counter() - started
    return outcome if test else {key: outcome[key] for key in ("valid", "seconds")}


def _overlap(task: Task) -> float:
    """n_test / n_train of Nadeau and Bengio's correction; 0 where the parts are fixed."""
    if not task.redraws:
        return 0.0
    train, _, test = task.load(0)
    sizes = [len(part[1]) if is_pair(part) else len(getattr(part, "dataset", part)) for part in (test, train)]
    return sizes[0] / sizes[1]
