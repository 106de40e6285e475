"""Which rows are trained on, which choose, and which judge: a pure function of the table, its schema and a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metricgrad.errors import MetricgradError
from metricgrad.tables.column_types import understand_column
from metricgrad.tables.schema import Column, Schema
from metricgrad.tables.target import encode_target
from metricgrad.tables.values import as_numbers, as_texts, as_times, column_of, counts_of

if TYPE_CHECKING:
    import pandas as pd

#: What a split column may say, in lower case.
WORDS = {
    "train": "train", "training": "train", "learn": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "eval": "valid",
    "test": "test", "testing": "test", "holdout": "test", "hold-out": "test",
}  # fmt: skip

_FIFTHS = 5
_TENTHS = 10


class Rows(NamedTuple):
    """Row numbers of the three parts, each in ascending order."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def redraws(schema: Schema) -> bool:
    """Whether another seed gives another test part: not where a column says which rows those are, or time does."""
    return schema.split is None and schema.time is None


def split_rows(frame: pd.DataFrame, schema: Schema, seed: int) -> Rows:
    """Three fifths of the rows to train on, one to choose by and one to judge by.

    - by default drawn anew with each seed, with the same share of every class (of every tenth of a regression's
      values) in each part;
    - with a group column, so that no group is in two parts, the shares as near as that allows;
    - with a time column, the earliest rows to train on and the latest to judge by, whatever the seed; rows of one time,
      or of one group (by its latest row), stay together;
    - with a split column, as it says; where it says no valid, a quarter of its training rows is drawn with each seed.

    Args:
        frame: the rows that have a target.
        schema: of the table.
        seed: of the draw.

    Raises:
        MetricgradError: for a class, groups or times that are too few for three parts, rows without a time or with
            another word than train, valid and test in their split column.
    """
    if schema.time is not None:
        return _by_time(frame, schema, schema.time)
    strata = _strata(frame, schema)
    groups = None if schema.group is None else codes(frame, schema.group)
    if schema.split is not None:
        return _by_column(frame, schema.split, strata, groups, seed)
    _check_strata(schema, strata)
    fold = _folds(strata, groups, _FIFTHS, seed, schema.group)
    return Rows(np.flatnonzero(fold > 1), np.flatnonzero(fold == 1), np.flatnonzero(fold == 0))


def groups_in_two_parts(frame: pd.DataFrame, schema: Schema, rows: Rows) -> int:
    """How many groups have rows in more than one part, as only a split column makes it.

    Args:
        frame: the rows that have a target.
        schema: of the table.
        rows: their parts.
    """
    if schema.group is None:
        return 0
    groups = codes(frame, schema.group)
    parts_with = np.stack([np.bincount(groups[part], minlength=groups.max() + 1) > 0 for part in rows]).sum(0)
    return int((parts_with > 1).sum())


def codes(frame: pd.DataFrame, name: str) -> np.ndarray:
    """``(N,)`` int64: a number for each different value of a column, whatever its type.

    Raises:
        MetricgradError: where it is missing somewhere.
    """
    texts = as_texts(column_of(frame, name))
    if texts.null_count:
        first = int(texts.is_null().to_numpy(zero_copy_only=False).argmax()) + 1
        raise MetricgradError(
            f"column {name!r} is empty in {texts.null_count:,} rows (first in row {first:,}); fill it in there, or "
            "leave those rows out"
        )
    return texts.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _strata(frame: pd.DataFrame, schema: Schema) -> np.ndarray:
    """What each part should have the same share of: classes, or tenths of the values."""
    targets = encode_target(schema.target, column_of(frame, schema.target.name))
    if schema.target.type != "regression":
        return targets
    edges = np.unique(np.quantile(targets, np.linspace(0, 1, _TENTHS + 1)[1:-1]))
    return np.searchsorted(edges, targets, side="right")


def _check_strata(schema: Schema, strata: np.ndarray) -> None:
    for name, count in zip(schema.target.classes, np.bincount(strata), strict=False):
        if count < _FIFTHS:
            raise MetricgradError(
                f"class {name!r} of target {schema.target.name!r} has {count} rows, too few to train on, choose by and "
                f"judge by; leave them out, or join classes until each has {_FIFTHS}"
            )


def _folds(strata: np.ndarray, groups: np.ndarray | None, count: int, seed: int, group: str | None) -> np.ndarray:
    """``(N,)`` number of the fold each row is in."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is not None and (there := len(np.unique(groups))) < count:
        raise MetricgradError(
            f"group {group!r} has {there} different values; {count} or more are needed, so that some can be held back"
        )
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = splitter(n_splits=count, shuffle=True, random_state=seed % 2**32).split(strata, strata, groups)
    found = np.empty(len(strata), np.int64)
    for number, (_, held_back) in enumerate(folds):
        found[held_back] = number
    return found


def _by_time(frame: pd.DataFrame, schema: Schema, name: str) -> Rows:
    times = _times(name, column_of(frame, name))
    units = np.unique(times, return_inverse=True)[1] if schema.group is None else codes(frame, schema.group)
    last = np.full(units.max() + 1, -np.inf)
    np.maximum.at(last, units, times)
    order = np.argsort(last, kind="stable")
    ends = np.empty(len(order))
    ends[order] = np.bincount(units)[order].cumsum() / len(frame)
    part = np.where(ends <= 0.6, 0, np.where(ends <= 0.8, 1, 2))[units]
    rows = Rows(*(np.flatnonzero(part == number) for number in range(3)))
    if any(not len(one) for one in rows):
        raise MetricgradError(
            f"time {name!r} has {len(order):,} different values, and no cut between them leaves rows to train on, "
            "choose by and judge by; name a finer one"
        )
    return rows


def _times(name: str, column: pd.Series) -> np.ndarray:
    """Numbers that ascend with time: seconds of dates, or the numbers themselves, such as years."""
    numbers, wrong = as_numbers(column)
    if wrong.any():
        found = understand_column(name, column)
        if not isinstance(found, Column) or found.type != "date":
            raise MetricgradError(
                f"time is {name!r}, which holds {str(column.iloc[int(wrong.argmax())])[:40]!r}; name a column of "
                "dates or numbers"
            )
        numbers, _ = as_times(column, found.format)
    if (missing := np.isnan(numbers)).any():
        raise MetricgradError(
            f"time {name!r} is empty in {int(missing.sum()):,} rows (first in row {int(missing.argmax()) + 1:,}); fill "
            "it in there, or leave those rows out"
        )
    return numbers


def _by_column(frame: pd.DataFrame, name: str, strata: np.ndarray, groups: np.ndarray | None, seed: int) -> Rows:
    texts = as_texts(column_of(frame, name)).to_pylist()
    said = np.array([WORDS.get(str(text).lower(), "") for text in texts])
    if not (said != "").all():
        at = int((said == "").argmax())
        raise MetricgradError(
            f"split {name!r} is {texts[at]!r} in row {at + 1:,}; it may say train, valid or test: write one of them, "
            "or leave that row out"
        )
    train, valid, test = (np.flatnonzero(said == part) for part in ("train", "valid", "test"))
    if not len(train) or not len(test):
        there = ", ".join(counts_of(as_texts(column_of(frame, name))))
        raise MetricgradError(f"split {name!r} says {there} alone; it has to say train of some rows and test of others")
    if not len(valid):
        fold = _folds(strata[train], None if groups is None else groups[train], 4, seed, name)
        train, valid = train[fold > 0], train[fold == 0]
    return Rows(train, valid, test)
