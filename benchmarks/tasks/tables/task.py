"""Twenty-four tasks on which losses and decisions are developed: a table, a metric, and a small network.

Each has the name of its table and metric, ``phoneme_f1``, and a twin with a linear model, ``phoneme_f1_linear``.
Whatever is claimed from them must hold on tables that nobody tuned on: ``FRESH`` has tasks of two.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metricgrad.losses.registry import ProblemKind, Range
from metricgrad.tables.boosting import SPACE, SUMMARY, fit_trees
from metricgrad.tables.preprocessing import Layout
from metricgrad.tables.schema import Target
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, split, standardise
from metricgrad.tasks.task import Learner, Task, to_float
from tasks.tables.data import read_table
from tasks.tables.packaged import PACKAGED, read_packaged

SMALL = 2_000
WIDTHS = {"default": 16, "abalone9-18": 16, "yeast6": 16}
"""Units of the hidden layer where they are not 32."""
FAST = Range(1e-3, 3e-1, default=3e-2)  # a linear model takes larger steps than a network

SUITE: tuple[tuple[str, int, str, str], ...] = (
    ("nasscds", 12_000, "binary", "average_precision f1 g_mean"),
    ("default", 10_000, "binary", "average_precision f1"),
    ("caravan", 5_822, "binary", "average_precision auroc"),
    ("lending_club", 9_857, "binary", "average_precision mcc"),
    ("abalone9-18", 731, "binary", "average_precision"),
    ("yeast6", 1_484, "binary", "f1"),
    ("penbased", 10_992, "multiclass", "accuracy macro_f1"),
    ("contraceptive", 1_473, "multiclass", "macro_f1 quadratic_kappa"),
    ("letter", 12_000, "multiclass", "accuracy"),
    ("phoneme", 5_404, "binary", "f1"),
    ("magic", 12_000, "binary", "recall_at_precision:precision=0.9 auroc"),
    ("led7digit", 500, "multiclass", "balanced_accuracy"),
    ("page-blocks0", 5_472, "binary", "average_precision f1"),
    ("satimage", 6_435, "multiclass", "macro_f1"),
    ("marketing", 6_876, "multiclass", "quadratic_kappa"),
)
"""Table, rows, kind of problem, metrics."""

FRESH_SUITE: tuple[tuple[str, int, str, str], ...] = (
    ("sylva", 13_086, "binary", "average_precision f1 mcc"),
    ("shuttle", 12_000, "binary", "average_precision f1 mcc"),
)
"""The same of tables that nobody tuned on."""


@functools.cache
def _table(name: str) -> tuple[Tensor, Tensor]:
    features, classes = (read_packaged if name in PACKAGED else read_table)(name)
    return to_float(features), torch.from_numpy(classes)


def load_table(name: str, seed: int) -> Splits:
    """Three fifths to train on, a fifth to validate and a fifth to test, each with the class rates of the whole."""
    return standardise(split(*_table(name), seed, stratify=True))


def model_of(name: str, kind: ProblemKind, *, linear: bool) -> nn.Module:
    """A linear model, or a network with one hidden layer."""
    features, classes = _table(name)
    outputs = None if kind == "binary" else int(classes.max()) + 1
    return mlp(features.shape[1], outputs, () if linear else (WIDTHS.get(name, 32),))


class NumericTable(Task):
    """A table of numbers, which a network or boosted trees learn."""

    table: str

    @property
    def learners(self) -> Mapping[str, Learner]:
        """LightGBM."""
        features, classes = _table(self.table)
        names = tuple(map(str, range(int(classes.max()) + 1)))
        target = Target("class", "binary" if self.kind == "binary" else "multiclass", names)
        grow = functools.partial(fit_trees, layout=Layout(features.shape[1], (), ()), target=target)
        return {"lightgbm": Learner(SPACE, grow, SUMMARY)}


def _task(name: str, rows: int, kind: ProblemKind, metric: str, *, linear: bool) -> Task:
    small = rows < SMALL
    task = NumericTable(
        f"{name_of(name, metric)}{'_linear' if linear else ''}",
        model=functools.partial(model_of, name, kind, linear=linear),
        load=functools.partial(load_table, name),
        metric=metric,
        kind=kind,
        device="cpu",
        epochs=40 if small else 15,
        batch_size=64 if small else 128,
        lr=FAST if linear else None,
        summary=f"{metric} on the table {name} of {rows:,} rows",
    )
    task.table = name
    return task


def name_of(table: str, metric: str) -> str:
    """What a task is called: the table and the metric, as one word of Python."""
    return f"{table}_{metric.partition(':')[0]}".replace("-", "_")


def _tasks(suite: tuple[tuple[str, int, str, str], ...]) -> dict[str, Task]:
    made = [
        _task(name, rows, kind, metric, linear=linear)
        for name, rows, kind, metrics in suite
        for metric in metrics.split()
        for linear in (False, True)
    ]
    return {task.name: task for task in made}


TASKS, FRESH = _tasks(SUITE), _tasks(FRESH_SUITE)
globals().update(TASKS | FRESH)  # so that `path/to/task.py:phoneme_f1` finds it
