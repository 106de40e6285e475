"""The file of what was kept of one training of a loss, see :mod:`metricgrad.comparison.report.evidence`."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import TypedDict

from metricgrad.decisions.kinds import Stored
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.training.run_folder.files import make_folder
from metricgrad.writing import write_text

FOLDER = "evidence"
SEED = 0
"""The run that is kept of each loss."""


class Epoch(TypedDict):
    """One epoch of a training."""

    epoch: int
    train_loss: float | None
    valid: float | None
    seconds: float | None


class Readings(TypedDict):
    """Counts, or sums of weights, under the decision and without; rows are true classes, columns what was said."""

    decided: list[list[float]]
    undecided: list[list[float]]


class Curve(TypedDict):
    """Every cut of the scores."""

    recall: list[float]
    precision: list[float]


class Calibration(TypedDict):
    """Bins of what was said, how often it was so, and of how many items, or of which weight."""

    said: list[float]
    seen: list[float]
    items: list[float]


class Predictions(TypedDict, total=False):
    """See :func:`metricgrad.comparison.report.predictions.predictions_of`."""

    of: str
    weighted: bool
    confusion: Readings
    curve: Curve
    calibration: Calibration
    points: list[list[float]]


class Mismatch(TypedDict, total=False):
    """See :func:`metricgrad.comparison.report.loss_pictures.mismatch_seen`."""

    missing: str
    value: float | None
    low: float | None
    high: float | None
    rows: int
    weighted: bool
    points: list[list[float]]


class Push(TypedDict):
    """See :func:`metricgrad.comparison.report.loss_pictures.push_of`."""

    score: list[float]
    push: list[float]


class Curriculum(TypedDict):
    """See :func:`metricgrad.comparison.report.loss_pictures.curriculum_of`."""

    step: list[int]
    knobs: dict[str, list[float]]
    of: int


class Evidence(TypedDict):
    """What is kept of one training."""

    history: list[Epoch]
    decision: Stored | None
    predictions: Predictions | None
    mismatch: Mismatch
    learned: bool
    push: Push | None
    curriculum: Curriculum | None


class _File(Evidence):
    loss: str
    seed: int
    params: dict[str, float]


def keep(study: Path, loss: str, params: dict[str, float], found: Evidence) -> None:
    """Write what was gathered of a loss at these parameters."""
    path = _path(study, loss)
    make_folder(path.parent)
    write_text(path, json.dumps({"loss": loss, "seed": SEED, "params": params, **found}, allow_nan=False))


def kept(study: Path, loss: str, params: dict[str, float]) -> Evidence | None:
    """What was kept of a loss; None where nothing was, or of a run at other parameters.

    Raises:
        MetricgradError: for a file that is something else.
    """
    path = _path(study, loss)
    try:
        found = parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, MetricgradError) as error:
        raise MetricgradError(f"{str(path)!r} is no evidence of a run ({error}); delete it") from error
    if not fits(found, _File):
        raise MetricgradError(f"{str(path)!r} is no evidence of a run of this version; delete it")
    return found if found["params"] == params else None


def _path(study: Path, loss: str) -> Path:
    """A name that every file system takes, another one for every loss."""
    return study / FOLDER / f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', loss)[:60]}-{zlib.crc32(loss.encode()):08x}.json"
