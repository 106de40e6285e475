"""From a data frame to its schema: nothing is guessed silently, and what cannot be known is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.tables.class_labels import alike
from metricgrad.tables.column_types import understand_column
from metricgrad.tables.number_styles import number_of, written_as
from metricgrad.tables.row_weights import check_weight, described, row_weights
from metricgrad.tables.schema import Column, Schema, Target
from metricgrad.tables.suspicions import copies, tells_alone
from metricgrad.tables.target import encode_target, ranks_queries, understand_target, written_in_several_ways
from metricgrad.tables.values import arrow_functions, as_texts, column_of, counts_of, is_text

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS = 20


def understand(
    frame: pd.DataFrame,
    target: str,
    *,
    metric: str | Metric | Callable[..., Any] | None = None,
    positive: object = None,
    classes: Sequence[object] | None = None,
    group: str | None = None,
    weight: str | None = None,
    split: str | None = None,
    time: str | None = None,
    drop: Sequence[str] = (),
    from_csv: bool = False,
) -> Schema:
    """The schema of a table: :meth:`Schema.describe` says what was understood.

    A column of text is numbers where all but a few words are (those then mean missing, and that is noted), booleans
    where it says yes and no, dates where one way to read them fits, or else a category. Constants, identifiers and free
    text are left out, with the reason. ``?``, ``NA``, ``null`` and the like are missing values.

    Args:
        frame: as :func:`metricgrad.tables.reading.read_table` reads it, or any other.
        target: the column to predict.
        metric: what it will be judged by, which decides whether the target is classes or values.
        positive: the class to look for, of two; asked for where it is not clear.
        classes: all classes from low to high; asked for where the metric is of ordered grades and they are text.
        group: a column whose equal values belong together.
        weight: a column of how much each row counts.
        split: a column that says train, valid or test.
        time: a column by which the parts follow each other.
        drop: columns to leave out.
        from_csv: whether the frame is text because its file is; labels then come back as :func:`pandas.read_csv` would
            read them.

    Raises:
        MetricgradError: for a column that is not there or means two things, a target that does not serve the metric,
            and whatever has to be said and was not.

    Cost:
        Seconds for 100,000 rows of 50 columns.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"age": [40, 51, 62] * 10, "left": ["no", "yes", "no"] * 10})
        >>> understand(frame, "left").describe()[0]
        "30 rows; target 'left': binary, positive is 'yes' (33.3% of rows)"
    """
    judged_by = None if metric is None else as_metric(metric)
    roles = {"target": target, "group": group, "weight": weight, "split": split, "time": time}
    roles = {role: name for role, name in roles.items() if name is not None}
    _check_roles(frame, roles, drop)
    _check_metric(judged_by, roles)
    absent = as_texts(column_of(frame, target)).is_null().to_numpy(zero_copy_only=False)
    rows = frame.take(np.flatnonzero(~absent))
    if len(rows) < FEWEST_ROWS:
        raise MetricgradError(
            f"target {target!r} has a value in {len(rows)} rows; give {FEWEST_ROWS} or more, to learn from and to "
            "judge by"
        )
    understood = understand_target(
        target, column_of(rows, target), judged_by, positive=None if positive is None else str(positive),
        classes=None if classes is None else [str(one) for one in classes], from_csv=from_csv,
    )  # fmt: skip
    columns, left_out = _columns(rows, roles, drop)
    columns, doubts = _settled(rows, columns)
    if not columns:
        why = "; ".join(f"{name!r}: {reason}" for name, reason in list(left_out.items())[:3])
        raise MetricgradError(f"no column is left to learn target {target!r} from ({why}); name fewer in drop")
    notes = (*doubts, *_notes(rows, columns, understood, int(absent.sum())))
    if weight is not None:
        notes = (described(row_weights(frame, weight, ~absent), weight), *notes)
    return Schema(
        understood, columns, len(rows), left_out=left_out, notes=notes,
        **{role: name for role, name in roles.items() if role != "target"},
    )  # fmt: skip


def _check_roles(frame: pd.DataFrame, roles: Mapping[str, str], drop: Sequence[str]) -> None:
    names = [str(name) for name in frame.columns]
    if isinstance(drop, str):
        raise MetricgradError(f"drop is {drop!r}; give a list of columns: drop=[{drop!r}]")
    for role, name in (*roles.items(), *(("drop", name) for name in drop)):
        if name not in names:
            raise MetricgradError(f"{role} is {name!r}, and the table has no such column: {did_you_mean(name, names)}")
    for role, name in roles.items():
        other = next((other for other, named in roles.items() if named == name and other != role), None)
        if other is not None or name in drop:
            raise MetricgradError(
                f"column {name!r} is {role} and {other or 'in drop'}; let it be one of them, and leave the other out"
            )
    if "split" in roles and "time" in roles:
        raise MetricgradError(
            f"split is {roles['split']!r} and time is {roles['time']!r}; each alone says which rows are for testing: "
            "leave one out"
        )


def _check_metric(metric: Metric | None, roles: Mapping[str, str]) -> None:
    if metric is not None and ranks_queries(metric) and "group" not in roles:
        raise MetricgradError(
            f"metric {metric.name!r} ranks the rows of each query, and none are named; pass the column of queries: "
            "group='query' (--group query)"
        )
    if metric is not None and "weight" in roles:
        check_weight(metric, f"weight={roles['weight']!r}")


def _columns(
    rows: pd.DataFrame, roles: Mapping[str, str], drop: Sequence[str]
) -> tuple[tuple[Column, ...], dict[str, str]]:
    columns, left_out = [], {}
    for name in rows.columns:
        if name in roles.values():
            continue
        if name in drop:
            left_out[str(name)] = "as asked for"
            continue
        found = understand_column(str(name), column_of(rows, name))
        if isinstance(found, Column):
            columns.append(found)
        else:
            left_out[str(name)] = found
    return tuple(columns), left_out


def _markers_elsewhere(columns: tuple[Column, ...]) -> list[str]:
    """Words that mean missing among numbers, and are a level like any other in a category."""
    markers = dict.fromkeys(marker for column in columns for marker in column.markers)
    places = {marker: [column.name for column in columns if marker in column.levels] for marker in markers}
    return [
        f"{marker!r}, missing among numbers, is a level of its own in {', '.join(map(repr, names))}; leave the field "
        "empty where it means nothing there either"
        for marker, names in places.items()
        if names
    ]


def _settled(rows: pd.DataFrame, columns: tuple[Column, ...]) -> tuple[tuple[Column, ...], list[str]]:
    """Numbers that can be read in two ways as the other columns are written, and what had to be assumed."""
    doubts: dict[str, str] = {}
    signs: set[str] = set()
    for column in columns:
        if column.type == "number" and is_text(column_of(rows, column.name)):
            texts = as_texts(column_of(rows, column.name))
            written = None if column.style is None else written_as(counts_of(texts))
            if written is not None and written.doubtful is not None:
                doubts[column.name] = written.doubtful
            elif column.style is not None:
                signs.add(column.style[0])
            elif arrow_functions().any(arrow_functions().match_substring(texts, ".")).as_py():
                signs.add(".")
    found, notes = [], []
    for column in columns:
        if column.name in doubts and column.style is not None:
            if len(signs) == 1 and len(column.style) == 1:
                column = replace(column, style=next(iter(signs)))
            elif signs != {column.style[0]}:
                text = doubts[column.name]
                notes.append(
                    f"{column.name!r} holds {text!r}, taken for {number_of(text, column.style):,.10g}, and so "
                    "throughout; write it plainly where it is another number"
                )
        found.append(column)
    return tuple(found), notes


def _notes(rows: pd.DataFrame, columns: tuple[Column, ...], target: Target, absent: int) -> tuple[str, ...]:
    notes = []
    if absent:
        notes.append(f"{absent:,} rows have no {target.name!r} and are left out")
    for column in columns:
        if column.markers:
            words = ", ".join(map(repr, column.markers))
            notes.append(f"{column.name!r} is numbers; what is none is read as missing there: {words}")
    notes += _markers_elsewhere(columns)
    notes += [f"classes {written_in_several_ways(texts)}" for texts in alike(target.classes)]
    names = [column.name for column in columns]
    if twice := copies(rows, [*names, target.name]):
        notes.append(
            f"{twice:,} rows are exact copies of others, target included; where they are no coincidence, take them "
            "out: a copy of a training row in the test part flatters every model"
        )
    codes = encode_target(target, column_of(rows, target.name))
    for name, value in tells_alone(rows, columns, target, np.asarray(codes)).items():
        measure = "share of variance explained" if target.type == "regression" else "AUROC"
        notes.append(
            f"leak suspected: {name!r} alone tells the target ({measure} {value:.3f}); where it is not known "
            f"beforehand, leave it out: drop=[{name!r}] (--drop {name})"
        )
    return tuple(notes)
