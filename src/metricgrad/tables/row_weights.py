"""How much each row of a table counts, read from a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.tables.values import as_numbers, column_of, refuse

if TYPE_CHECKING:
    import pandas as pd


def row_weights(frame: pd.DataFrame, name: str, there: np.ndarray, first_row: int = 0) -> np.ndarray:
    """``(K,)`` float64 numbers from 0 up, of the rows that are there.

    Args:
        frame: of N rows.
        name: of the column.
        there: ``(N,)`` booleans: which rows have a target, so that they count.
        first_row: how many rows came before this chunk, for messages.

    Raises:
        MetricgradError: for a column that is not there, and for a value that is no number, missing or below 0.
    """
    if name not in frame.columns:
        raise MetricgradError(
            f"the table has no column {name!r}, which says how much its rows weigh; add it, or 1 in every row"
        )
    column = column_of(frame, name)
    found, _ = as_numbers(column)
    refuse(f"weight {name!r}", column, there & ~(found >= 0), "and a weight is a number from 0 up", first_row)
    return found[there]


def check_weight(metric: Metric, weight: str) -> None:
    """Refuse a metric that would count every row once, where ``weight`` was asked for.

    Raises:
        MetricgradError: where it takes no weights.
    """
    if "sample_weight" not in metric.context:
        raise MetricgradError(
            f"metric {metric.name!r} takes no sample_weight, so {weight} cannot count in it; give a function of "
            "your own that argument, name another metric, or leave the weight out"
        )


def described(weights: np.ndarray, name: str) -> str:
    """What they are, and where they count, in a line.

    Raises:
        MetricgradError: where all are 0.

    Example:
        >>> described(np.array([1.0, 3.0, 0.0]), "w").partition(",")[0]
        "rows weigh from 0 to 3 by 'w' (1 of them nothing)"
    """
    if not weights.any():
        raise MetricgradError(f"weight {name!r} is 0 in every row, so nothing counts; leave it out, or mend it")
    nothing = int((weights == 0).sum())
    none = f" ({nothing:,} of them nothing)" if nothing else ""
    return (
        f"rows weigh from {weights.min():g} to {weights.max():g} by {name!r}{none}, in training, in the metric, in the "
        "decision and in what a report shows"
    )
