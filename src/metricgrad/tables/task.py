"""A task made of a table: what is compared, and trained, on a CSV or Parquet file."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import Range
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.tables.asked import asked
from metricgrad.tables.columns import named, read_columns
from metricgrad.tables.network import TableNetwork
from metricgrad.tables.preprocessing import Layout, Preprocessing
from metricgrad.tables.reading import checksum, is_parquet, read_table
from metricgrad.tables.row_weights import row_weights
from metricgrad.tables.schema import Schema, Target
from metricgrad.tables.splits import Rows, groups_in_two_parts, redraws, split_rows
from metricgrad.tables.target import encode_target, ranks_queries
from metricgrad.tables.understanding import understand
from metricgrad.tables.units import in_units_of
from metricgrad.tables.values import as_texts, column_of
from metricgrad.tasks.split import Splits
from metricgrad.tasks.task import Learner, Task

if TYPE_CHECKING:
    import pandas as pd

_SIZES = ((2_000, (40, 64)), (20_000, (20, 128)), (200_000, (12, 512)))
"""Rows up to which so many epochs of batches of this size are trained."""
_LARGE = (8, 1024)
_KEPT = 4


class TableTask(Task):
    """A task whose parts are rows of one table; made by :func:`task_of_table`.

    Args:
        name: for tables and messages.
        frame: rows that have a target.
        schema: what was understood of them.
        metric: what the task is judged by.

    Attributes:
        frame: see above.
        schema: see above.
    """

    def __init__(
        self, name: str, frame: pd.DataFrame, schema: Schema, metric: str | Metric | Callable[..., Any]
    ) -> None:
        self.frame, self.schema = frame, schema
        self._columns = read_columns(schema, frame)
        codes = torch.from_numpy(encode_target(schema.target, column_of(frame, schema.target.name)))
        self._targets = codes if schema.target.type != "regression" else codes.to(torch.float32)
        self._weights: list[Tensor] = []
        if schema.weight is not None:
            everyone = np.ones(len(frame), dtype=bool)
            self._weights.append(torch.from_numpy(row_weights(frame, schema.weight, everyone)))
        self._parts = functools.lru_cache(maxsize=_KEPT)(self._parts_of)  # trials share one draw
        epochs, batch_size = sizes_of(len(frame))
        super().__init__(
            name,
            model=functools.partial(network_of, Layout.of(schema), schema.target),
            load=lambda seed: Splits(*self._parts(seed)),
            metric=metric,
            kind=schema.target.type,
            epochs=epochs,
            batch_size=batch_size,
            lr=Range(3e-4, 3e-2, default=2e-3),
            device="cpu" if len(frame) <= _SIZES[-1][0] else "auto",
            summary=f"{len(frame):,} rows of {schema.target.name!r}",
        )
        self.redraws = redraws(schema)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' texts in the order of their numbers."""
        return self.schema.target.classes

    @property
    def columns(self) -> Mapping[str, str]:
        """The types of the columns that are learned from, by their names."""
        return {column.name: column.type for column in self.schema.columns}

    def rows(self, seed: int) -> Rows:
        """Which rows are in which part of a draw."""
        return split_rows(self.frame, self.schema, seed)

    def preprocessing(self, seed: int) -> Preprocessing:
        """The preprocessing fitted on the training rows of a draw."""
        return Preprocessing.fit(self.schema, self._columns.take(self.rows(seed).train))

    @property
    def learners(self) -> Mapping[str, Learner]:
        """LightGBM, where it is installed."""
        if not importlib.util.find_spec("lightgbm"):
            return {}
        from metricgrad.tables.boosting import SPACE, SUMMARY, fit_trees

        grow = functools.partial(fit_trees, layout=Layout.of(self.schema), target=self.schema.target)
        return {"lightgbm": Learner(SPACE, grow, SUMMARY)}

    def judged_by(self, metric: str | Metric | Callable[..., Any] | None = None) -> Metric:
        """The metric asked for, or the task's own; of values, in the unit of the file."""
        return in_units_of(self.schema.target, super().judged_by(metric))

    def describe(self) -> list[str]:
        """What was understood, and how the rows are parted."""
        schema, rows = self.schema, self.rows(0)
        sizes = f"{len(rows.train):,} to train on, {len(rows.valid):,} to choose by and {len(rows.test):,} to judge by"
        if schema.split is not None:
            how = f"as {schema.split!r} says"
        elif schema.time is not None:
            apart = f", no {schema.group!r} in two parts, each by its latest row" if schema.group is not None else ""
            how = f"by {schema.time!r}, the latest to judge by{apart}"
        else:
            shares = "tenth of the values" if schema.target.type == "regression" else "class"
            apart = f", no {schema.group!r} in two of them" if schema.group is not None else ""
            how = f"drawn anew with every seed, each with its share of every {shares}{apart}"
        told = [*schema.describe(), f"parts: {sizes}; {how}"]
        if torn := groups_in_two_parts(self.frame, schema, rows):
            told.append(
                f"of {schema.group!r} {torn:,} are in more than one part, as {schema.split!r} says, so that the test "
                f"part flatters what knows them; mend {schema.split!r}, or leave one of the two out"
            )
        return told

    def _parts_of(self, seed: int) -> list[tuple[Tensor, ...]]:
        rows = self.rows(seed)
        inputs = Preprocessing.fit(self.schema, self._columns.take(rows.train)).apply(self._columns)
        whole = (inputs, self._targets, *self._weights)
        return [tuple(values[part] for values in whole) for part in map(torch.from_numpy, rows)]


def task_of_table(
    table: str | os.PathLike[str] | pd.DataFrame,
    *,
    target: Hashable,
    metric: str | Metric | Callable[..., Any],
    positive: object = None,
    classes: Sequence[object] | None = None,
    group: Hashable | None = None,
    weight: Hashable | None = None,
    split: Hashable | None = None,
    time: Hashable | None = None,
    drop: Sequence[Hashable] = (),
    name: str | None = None,
) -> TableTask:
    """A task for :func:`metricgrad.compare` from a CSV or Parquet file, or from a data frame.

    Look at ``print("\\n".join(task.describe()))`` first: it says what was understood, what is left out and why, and
    which columns may give the target away.

    Args:
        table: the file, see :func:`metricgrad.tables.reading.read_table`, or a frame.
        target: see :func:`metricgrad.tables.understanding.understand`, as for the options below.
        metric: what decides.
        positive: the class to look for, of two.
        classes: all of them from low to high.
        group: a column whose rows stay together.
        weight: a column of how much each row counts: a row of weight 2 is as two, in training, in the metric and in the
            decision.
        split: a column that says train, valid or test.
        time: a column by which the parts follow each other.
        drop: columns to leave out.
        name: of the task; by default the file's.

    Raises:
        MetricgradError: see there, and for rows that cannot be parted.

    Example:
        >>> import pandas as pd, metricgrad as mg
        >>> frame = pd.DataFrame({"age": [40, 51, 62] * 20, "left": ["no", "yes", "no"] * 20})
        >>> mg.task_of_table(frame, target="left", metric="f1")
        Task(table, binary, metric=f1)
    """
    is_file = isinstance(table, str | os.PathLike)
    frame = named(read_table(table) if is_file else table)
    judged_by = as_metric(metric)
    if ranks_queries(judged_by):
        raise MetricgradError(
            f"metric {judged_by.name!r} ranks the rows of each query, and a table is trained on row by row; name a "
            "metric of rows, such as average_precision"
        )
    roles = {"target": target, "group": group, "weight": weight, "split": split, "time": time}
    columns: dict[str, Any] = {role: str(column) for role, column in roles.items() if column is not None}
    columns["drop"] = drop if isinstance(drop, str) else [str(column) for column in drop]
    schema = understand(
        frame, metric=metric, positive=positive, classes=classes, from_csv=is_file and not is_parquet(table), **columns
    )
    name = name or (Path(table).name.partition(".")[0] if is_file else "table")
    task = TableTask(name, with_target(frame, columns["target"]), schema, metric)
    task.rows(0)  # what cannot be parted is told now
    task.options = asked({"positive": positive, "classes": classes, **columns})
    if is_file:
        task.origin = {Path(table).name: checksum(table)}
    return task


def sizes_of(rows: int) -> tuple[int, int]:
    """How many epochs a network is trained for on so many rows, and how many of them are in a step."""
    return next((sizes for most, sizes in _SIZES if rows <= most), _LARGE)


def with_target(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The rows that have a target."""
    there = ~as_texts(column_of(frame, target)).is_null().to_numpy(zero_copy_only=False)
    return frame.take(np.flatnonzero(there)).reset_index(drop=True)


def network_of(layout: Layout, target: Target) -> TableNetwork:
    """A fresh network for a table."""
    outputs = len(target.classes) if target.type == "multiclass" else None
    return TableNetwork(layout.numbers, len(layout.gaps), layout.levels, outputs)
