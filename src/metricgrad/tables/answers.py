"""Answers for a whole file, a chunk at a time: bounded memory, however long it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.tables.columns import Columns, check_there, read_columns
from metricgrad.tables.model import TableModel
from metricgrad.tables.reading import CHUNK, CSV, PARQUET, is_parquet, read_chunks
from metricgrad.tables.units import order_alone
from metricgrad.tables.unlike_training import UnlikeTraining
from metricgrad.tables.values import column_of
from metricgrad.writing import replacing

if TYPE_CHECKING:
    import pandas as pd

ROW, LABEL, VALUE, SCORE, PROBABILITY = "row", "label", "value", "score", "p_"
_DIGITS = 6


def answer_file(
    model: TableModel,
    table: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    id: str | None = None,
    keep: Sequence[str] = (),
    rows: int = CHUNK,
    say: Callable[[str], object] = lambda note: None,
) -> int:
    """Write one row of answers for each row of a table, names alone for none, and say how many there are.

    The columns are the row's number from 1, or the column that was named as ``id``; the label by the decision, or the
    value of a regression, called a score where the metric reads the order of values alone; and of classes each one's
    probability by the model alone. A label is written as in the table of training, in a Parquet file as the type it
    had there.

    Args:
        model: that answers.
        table: a CSV or Parquet file; see :func:`metricgrad.tables.reading.read_table`.
        out: a CSV or Parquet file, written whole or not at all; None for CSV on stdout.
        id: a column of the table that names its rows.
        keep: more of its columns, written as they are after the answers.
        rows: answered at once.
        say: is told what the answers mean where that is not plain, and what the table holds that training did not, a
            sentence at a time.

    Raises:
        MetricgradError: for a table that lacks a column or holds a value of another type, and where ``out`` cannot be
            written.
    """
    first = next(read_chunks(table, 1, may_be_empty=True))
    check_there(model.schema, first)
    names = list(first.columns)
    beside, taken = [("keep", name) for name in keep] + ([] if id is None else [("id", id)]), _columns_of(model)
    for option, name in beside:
        if name not in names:
            raise MetricgradError(
                f"{option} is {name!r}, and the table has no such column: {did_you_mean(name, names)}"
            )
        if option == "keep" and LABEL in taken and name.startswith(PROBABILITY):
            raise MetricgradError(
                f"keep is {name!r}, which reads as the probability of a class; rename it in the table"
            )
        if name in taken or (option, name) == ("keep", id or ROW):
            raise MetricgradError(f"{option} is {name!r}, and so is a column of the answers; rename it in the table")
    wanted = [*(column.name for column in model.schema.columns), *(name for _, name in beside)]
    done, unlike = 0, UnlikeTraining(model.schema)
    with _writer(out) as write:
        for chunk in read_chunks(table, rows, columns=wanted, may_be_empty=True):
            columns = read_columns(model.schema, chunk, done)
            unlike.count(columns)
            answered = _answered(model, columns, chunk, id, done, typed=out is not None and is_parquet(out))
            write(answered.assign(**{name: column_of(chunk, name).array for name in keep}))
            done += len(chunk)
    order = order_alone(model.schema.target, model.metric)
    for note in [*([order] if order else []), *unlike.notes()]:
        say(note)
    return done


def _columns_of(model: TableModel) -> list[str]:
    """What answers are called."""
    classes = model.schema.target.classes
    if classes:
        return [LABEL, *(f"{PROBABILITY}{name}" for name in classes)]
    return [VALUE if order_alone(model.schema.target, model.metric) is None else SCORE]


def _answered(
    model: TableModel, read: Columns, chunk: pd.DataFrame, id: str | None, first_row: int, *, typed: bool
) -> pd.DataFrame:
    import pandas as pd

    scores = model.scores_of(read)
    named = np.arange(first_row + 1, first_row + 1 + len(chunk)) if id is None else column_of(chunk, id).to_numpy()
    answer, *classes = _columns_of(model)
    columns = {ROW if id is None else id: named, answer: model.answers(scores)}
    if classes:
        if not typed:
            columns[answer] = np.array(model.schema.target.classes, dtype=object)[model.decided(scores)]
        columns |= dict(zip(classes, model.probabilities(scores).round(_DIGITS).T, strict=True))
    return pd.DataFrame(columns)


@contextmanager
def _writer(out: str | os.PathLike[str] | None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """What takes chunks of answers, one after the other."""
    if out is None:
        yield _CsvLines(sys.stdout)
        return
    ending = Path(out).suffix.lower()
    if ending not in (CSV[0], PARQUET[0]):
        raise MetricgradError(f"out is {str(out)!r}; name a file that ends in {CSV[0]} or {PARQUET[0]}")
    with replacing(Path(out)) as part:
        if ending == CSV[0]:
            with part.open("w", encoding="utf-8", newline="") as file:
                yield _CsvLines(file)
        else:
            with _ParquetRows(part) as rows:
                yield rows


class _CsvLines:
    """Appends to a text file, names first."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.begun = file, False

    def __call__(self, answers: pd.DataFrame) -> None:
        answers.to_csv(self.file, index=False, header=not self.begun)
        self.begun = True


class _ParquetRows:
    """Appends row groups; the first chunk decides the types."""

    def __init__(self, path: Path) -> None:
        self.path, self.writer = path, None

    def __enter__(self) -> _ParquetRows:
        return self

    def __call__(self, answers: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(answers, preserve_index=False)
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table.cast(self.writer.schema))

    def __exit__(self, *error: object) -> None:
        if self.writer is not None:
            self.writer.close()
