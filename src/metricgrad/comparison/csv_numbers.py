"""A CSV file of which some columns are read as numbers, a line at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

Row = Mapping[str, str | None]


def csv_numbers(
    path: Path,
    columns_of: Callable[[list[str]], list[str]],
    numbers_of: Callable[[int, Row, list[str]], Sequence[float]],
) -> tuple[list[str], Tensor]:
    """The columns that are read, and ``(N, K)`` float64 numbers, those of one row in each.

    Args:
        path: in UTF-8, with names in its first line.
        columns_of: from all names, without spaces around them, the columns to read.
        numbers_of: from the line's number, its row and these columns, K numbers.

    Raises:
        MetricgradError: naming the file where it cannot be read or has no rows, and what the two functions raise.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            names = [(name or "").strip() for name in lines.fieldnames or ()]
            lines.fieldnames = names
            columns = columns_of(names)
            rows = [numbers_of(lines.line_num, row, columns) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MetricgradError(f"cannot read {path}: {error}") from error
    if not rows:
        raise MetricgradError(f"{path} has no rows")
    return columns, torch.tensor(rows, dtype=torch.float64)
