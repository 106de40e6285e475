"""What makes a table look better than it is: rows that are copies, and columns that tell the target alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metricgrad.tables.schema import Column, Target
from metricgrad.tables.values import as_numbers, as_texts, as_times, codes_of, column_of

if TYPE_CHECKING:
    import pandas as pd

#: How well a column may tell the target by itself before it is suspected: an AUROC, or a share of variance.
AUROC, EXPLAINED = 0.97, 0.95

_ROWS = 20_000
_BINS = 64
_FOLDS = 5
_PRIOR = 1.0


def copies(frame: pd.DataFrame, names: list[str]) -> int:
    """How many rows are, in the columns named, an exact copy of an earlier one."""
    return int(frame.duplicated(subset=names).sum())


def tells_alone(
    frame: pd.DataFrame, columns: tuple[Column, ...], target: Target, codes: np.ndarray
) -> dict[str, float]:
    """Columns from each of which the target can be told, and how well.

    Each column is cut into at most 64 bins or levels, the target's mean in each is taken from four fifths of the rows,
    and what it says of the rest is scored: by the AUROC (of several classes the mean over them, weighed by their rows),
    or by the share of variance for a regression. Of a large table 20,000 rows are looked at.

    Args:
        frame: of rows that have a target.
        columns: those to look at.
        target: what is predicted.
        codes: ``(N,)`` of it, encoded.
    """
    generator = np.random.default_rng(0)
    rows = np.sort(generator.permutation(len(frame))[:_ROWS])
    looked_at, codes = frame.take(rows), codes[rows]
    folds = generator.permutation(len(rows)) % _FOLDS
    classes = list(range(1 if target.type == "binary" else 0, len(target.classes)))
    wanted = np.stack([codes == c for c in classes], 1).astype(float) if classes else codes[:, None].astype(float)
    limit = AUROC if classes else EXPLAINED
    found = {}
    for column in columns:
        told = _told(_bins(column, column_of(looked_at, column.name)), wanted, folds)
        value = _auroc(told, wanted) if classes else _explained(told, wanted)
        if value >= limit:
            found[column.name] = value
    return found


def _bins(column: Column, values: pd.Series) -> np.ndarray:
    """A number from 0 for each row: a quantile, a level, or a bin of its own for missing values."""
    if column.type in ("category", "boolean"):
        return codes_of(as_texts(values), column.levels) + 2
    if column.type == "date":
        numbers, _ = as_times(values, column.format)
    else:
        numbers, _ = as_numbers(values, column.markers, column.style)
    present = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(present, np.linspace(0, 1, _BINS))) if len(present) else present
    return np.where(np.isnan(numbers), 0, np.searchsorted(edges, numbers, side="right") + 1)


def _told(bins: np.ndarray, wanted: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """``(N, K)``: the mean of what is wanted in the row's bin, over rows of other folds, drawn to the mean of all."""
    told = np.empty_like(wanted)
    for fold in range(_FOLDS):
        rest = folds != fold
        counts = np.bincount(bins[rest], minlength=bins.max() + 1).astype(float)
        mean = wanted[rest].mean(0)
        for k in range(wanted.shape[1]):
            sums = np.bincount(bins[rest], wanted[rest, k], minlength=len(counts))
            told[~rest, k] = ((sums + _PRIOR * mean[k]) / (counts + _PRIOR))[bins[~rest]]
    return told


def _auroc(told: np.ndarray, wanted: np.ndarray) -> float:
    import pandas as pd

    values, weights = [], []
    for score, positive in zip(told.T, wanted.T, strict=True):
        count = positive.sum()
        if 0 < count < len(positive):
            ranks = pd.Series(score).rank().to_numpy()[positive > 0].sum()
            values.append((ranks - count * (count + 1) / 2) / (count * (len(positive) - count)))
            weights.append(count)
    return float(np.average(values, weights=weights)) if values else 0.5


def _explained(told: np.ndarray, wanted: np.ndarray) -> float:
    spread = float(wanted.var())
    return 1 - float(((told - wanted) ** 2).mean()) / spread if spread else 0.0
