"""A CSV or Parquet file of which some columns are read as numbers, a row at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.tables.reading import is_parquet, read_chunks
from metricgrad.tables.values import as_texts, column_of

Row = Mapping[str, str | None]
ColumnsOf = Callable[[list[str]], list[str]]
NumbersOf = Callable[[str, Row, list[str]], Sequence[float]]


def row_numbers(path: Path, columns_of: ColumnsOf, numbers_of: NumbersOf) -> tuple[list[str], Tensor]:
    """The columns that are read, and ``(N, K)`` float64 numbers, those of one row in each.

    Args:
        path: a CSV file in UTF-8, with names in its first line, or a Parquet file.
        columns_of: from all names, without spaces around them, the columns to read.
        numbers_of: from where a row stands, in words, its texts and these columns, K numbers.

    Raises:
        MetricgradError: naming the file where it cannot be read or has no rows, and what the two functions raise.
    """
    columns, rows = (_of_parquet if is_parquet(path) else _of_csv)(path, columns_of, numbers_of)
    if not rows:
        raise MetricgradError(f"{path} has no rows")
    return columns, torch.tensor(rows, dtype=torch.float64)


def _of_csv(path: Path, columns_of: ColumnsOf, numbers_of: NumbersOf) -> tuple[list[str], list[Sequence[float]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            names = [(name or "").strip() for name in lines.fieldnames or ()]
            lines.fieldnames = names
            columns = columns_of(names)
            return columns, [numbers_of(f"{path}, line {lines.line_num}", row, columns) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MetricgradError(f"cannot read {path}: {error}") from error


def _of_parquet(path: Path, columns_of: ColumnsOf, numbers_of: NumbersOf) -> tuple[list[str], list[Sequence[float]]]:
    columns, rows = [], []
    for row in _rows(path):
        columns = columns or columns_of(list(row))
        rows.append(numbers_of(f"{path}, row {len(rows) + 1}", row, columns))
    return columns, rows


def _rows(path: Path) -> Iterator[Row]:
    for chunk in read_chunks(path):
        texts = {name: as_texts(column_of(chunk, name)).to_pylist() for name in chunk.columns}
        for values in zip(*texts.values(), strict=True):
            yield dict(zip(texts, values, strict=True))
