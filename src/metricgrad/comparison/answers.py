"""What ``metricgrad predict`` wrote, with the true labels in a column beside it, as scores and targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from metricgrad.comparison.row_numbers import Row, row_numbers
from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.tables.answers import LABEL, PROBABILITY, SCORE, VALUE


def read_answers(path: Path, target: str) -> tuple[Tensor, Tensor]:
    """``(N,)`` or ``(N, C)`` float64 probabilities and ``(N,)`` int64 classes, or ``(N,)`` values and their targets.

    The classes are those of the columns ``p_...``, in their order; of two, the probability of the second is read. What
    was decided, the column ``label``, is not.

    Args:
        path: a CSV or Parquet file that :func:`metricgrad.tables.answers.answer_file` wrote, columns added or not.
        target: the column of true labels, written as the classes are, or of true values.

    Raises:
        MetricgradError: naming the file, and the line or row that is wrong.
    """

    def columns_of(names: list[str]) -> list[str]:
        if target not in names:
            raise MetricgradError(
                f"{path} has no column {target!r}, which `metricgrad predict --keep` writes beside its answers; "
                f"{did_you_mean(target, names)}"
            )
        return _columns(path, [name for name in names if name != target])

    def numbers_of(where: str, row: Row, columns: list[str]) -> list[float]:
        texts, classes = [row[target], *(row[name] for name in columns)], _classes(columns)
        texts = [str(_class_of(texts[0], classes)), *texts[1:]] if classes else texts
        return _numbers(where, texts, (target, *columns), classes)

    columns, table = row_numbers(path, columns_of, numbers_of)
    classes = _classes(columns)
    targets, scores = table[:, 0], table[:, 1:] if len(classes) > 2 else table[:, -1]
    return scores, targets.long() if classes else targets


def _classes(columns: Sequence[str]) -> list[str]:
    """Whose probabilities the columns are; none where they are one of values."""
    return [name.removeprefix(PROBABILITY) for name in columns] if len(columns) > 1 else []


def _columns(path: Path, names: Sequence[str]) -> list[str]:
    """Of the probabilities, or of the value."""
    if LABEL in names and len(found := [name for name in names if name.startswith(PROBABILITY)]) > 1:
        return found
    if found := [name for name in (VALUE, SCORE) if name in names]:
        return found[:1]
    raise MetricgradError(
        f"{path} has columns {', '.join(names) or '(none)'}; expected what `metricgrad predict` writes: {LABEL} and "
        f"{PROBABILITY}... of each class, or {VALUE}"
    )


def _class_of(text: str | None, classes: Sequence[str]) -> int | None:
    """Its number; 1.0 is the class 1."""
    if text in classes:
        return classes.index(text)
    return next(
        (n for n, one in enumerate(classes) if _number(one) is not None and _number(one) == _number(text)), None
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _numbers(where: str, texts: Sequence[str | None], names: Sequence[str], classes: Sequence[str]) -> list[float]:
    found = [_number(text) for text in texts]
    for number, name in zip(found, names, strict=True):
        if number is None or not abs(number) < torch.inf:
            of = f"one of {', '.join(classes)}" if classes and name == names[0] else "a finite number"
            raise MetricgradError(f"{where}: {name!r} is not {of}; mend the row or leave it out")
    return [number for number in found if number is not None]
