"""The columns of a frame as the numbers and codes they are by a schema: matched by name, checked, nothing fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.tables.column_types import parts_of
from metricgrad.tables.schema import Column, Schema
from metricgrad.tables.values import as_numbers, as_texts, as_times, codes_of, column_of, refuse

if TYPE_CHECKING:
    import pandas as pd

#: Codes of a category that are no level of it: a value that was rare or unknown, and none at all.
OTHER, MISSING = 0, 1


@dataclass(frozen=True)
class Columns:
    """What rows hold.

    Attributes:
        numbers: ``(N, F)`` float64 of numeric columns and the parts of dates, NaN where there is none.
        codes: ``(N, K)`` int64 of categories and booleans: 0 other, 1 missing, levels from 2.
    """

    numbers: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: np.ndarray) -> Columns:
        """Some of the rows."""
        return Columns(self.numbers[rows], self.codes[rows])


def features(schema: Schema) -> list[tuple[Column, str]]:
    """The numbers there are: each numeric column, and each part of each date."""
    return [
        (column, part)
        for column in schema.columns
        if column.type in ("number", "date")
        for part in (column.parts or ("value",))
    ]


def categories(schema: Schema) -> list[Column]:
    """The columns that have codes."""
    return [column for column in schema.columns if column.type in ("category", "boolean")]


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its column names as text.

    Raises:
        MetricgradError: for anything else than a frame, and where two columns share a name.
    """
    if not hasattr(frame, "columns"):
        raise MetricgradError(f"the table is a {type(frame).__name__}; pass a DataFrame, such as pandas.read_csv(path)")
    found = frame.rename(columns=str)
    if not found.columns.is_unique:
        twice = found.columns[found.columns.duplicated()][0]
        raise MetricgradError(f"the table has the column {twice!r} more than once; rename one of them")
    return found


def read_columns(schema: Schema, frame: pd.DataFrame, first_row: int = 0) -> Columns:
    """What a frame holds of a schema's columns, in any order and beside any others.

    Args:
        schema: of the table that was trained on.
        frame: of any rows.
        first_row: how many rows came before this chunk, for messages.

    Raises:
        MetricgradError: for columns that are not there, and for a value that is of another type.
    """
    frame = named(frame)
    check_there(schema, frame)
    numbers: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for column in schema.columns:
        values = column_of(frame, column.name)
        if column.type == "number":
            found, wrong = as_numbers(values, column.markers, column.style)
            refuse(f"column {column.name!r}", values, wrong, "which is no number as it was in training", first_row)
            numbers.append(found)
        elif column.type == "date":
            seconds, wrong = as_times(values, column.format)
            written = f" written as {column.format}" if column.format else ""
            refuse(f"column {column.name!r}", values, wrong, f"which is no date{written} as in training", first_row)
            parts = parts_of(seconds)
            numbers.extend(parts[part] for part in column.parts)
        else:
            found = codes_of(as_texts(values), column.levels)
            codes.append(np.where(found >= 0, found + 2, np.where(found == -1, OTHER, MISSING)))
    rows = len(frame)
    return Columns(
        np.stack(numbers, 1) if numbers else np.zeros((rows, 0)),
        np.stack(codes, 1) if codes else np.zeros((rows, 0), np.int64),
    )


def check_there(schema: Schema, frame: pd.DataFrame) -> None:
    """Refuse a frame that lacks columns, naming them and what is close."""
    there = [str(name) for name in frame.columns]
    if missing := [column.name for column in schema.columns if column.name not in there]:
        others = [name for name in there if name not in {column.name for column in schema.columns}]
        close = did_you_mean(missing[0], others)
        hint = f", or rename what is it: {close}" if close.startswith("did") else ""
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise MetricgradError(
            f"the table lacks {', '.join(map(repr, missing[:5]))}{more}, which the model was trained on; add what is "
            f"missing{hint}"
        )
