"""A model as a folder: its files, and a card that says what it is and which files those are. Nothing in it is code.

``card.json`` is written last, with the checksums of the other files, so that a folder is whole or no model. What the
files are depends on the kind of model: :mod:`metricgrad.training.network_folder` has that of networks of one's own,
:mod:`metricgrad.tables.model_folder` those of tables.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from metricgrad.decisions.base import Decision
from metricgrad.decisions.kinds import Stored, restored, stored
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.metrics.absent import metric_of_file
from metricgrad.metrics.metric import Metric
from metricgrad.training.run_folder.files import make_folder
from metricgrad.version import __version__
from metricgrad.writing import write_text

CARD = "card.json"
FORMAT = 1


class Card(TypedDict):
    """What ``card.json`` says; ``about`` and ``versions`` are for people, and nothing is made of them."""

    format: int
    kind: str
    metric: str
    decision: Stored
    files: dict[str, str]
    about: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class ModelFolder:
    """A folder that was opened, whose files are those that its card was written for.

    Attributes:
        path: of the folder.
        kind: of the model.
        decision: from raw scores to what is delivered.
        metric: what it was chosen by.
        files: names of the other files.
        about: what it is, on what it was trained, and how well it did.
    """

    path: Path
    kind: str
    decision: Decision
    metric: Metric
    files: frozenset[str]
    about: dict[str, Any]


def write_model_folder(
    folder: str | os.PathLike[str],
    kind: str,
    files: Mapping[str, Callable[[Path], object]],
    *,
    metric: Metric,
    decision: Decision,
    about: Mapping[str, Any],
) -> Path:
    """Write a model.

    Args:
        folder: a new one, or one without a model.
        kind: of the model.
        files: what writes each file, by its name.
        metric: what it was chosen by.
        decision: it is delivered under.
        about: JSON-able, for people.

    Raises:
        MetricgradError: where a model is there already, or it cannot be written.
    """
    place = Path(folder)
    if (place / CARD).exists():
        raise MetricgradError(f"{str(folder)!r} holds a model already; name another folder, or remove it")
    make_folder(place)
    for name, write in files.items():
        write(place / name)
    card: Card = {
        "format": FORMAT,
        "kind": kind,
        "metric": metric.spec or metric.name,
        "decision": stored(decision),
        "files": {name: _checksum(place / name) for name in files},
        "about": dict(about),
        "versions": {
            "metricgrad": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
    write_text(place / CARD, json.dumps(card, indent=1, allow_nan=False) + "\n")
    return place


def open_model_folder(folder: str | os.PathLike[str], *, metric: Any = None) -> ModelFolder:
    """Read the card, and look whether the files are its own. Nothing is unpickled, imported or run for it.

    Args:
        folder: written by :func:`write_model_folder`.
        metric: the one it was chosen by, where that is not built in; a model answers without.

    Raises:
        MetricgradError: for a folder that holds no model, or one whose files were changed or are torn.
    """
    place = Path(folder)
    card = _card(place)
    for name, known in card["files"].items():
        if Path(name).name != name or _checksum(place / name) != known:
            raise MetricgradError(
                f"{str(place / name)!r} is not the file that {CARD} was written for; put the right one back, or train "
                "the model anew"
            )
    try:
        decision = restored(card["decision"])
        judged_by = metric_of_file(card["metric"], metric)
    except MetricgradError as error:
        raise MetricgradError(f"{str(place / CARD)!r}: {error}") from error
    return ModelFolder(place, card["kind"], decision, judged_by, frozenset(card["files"]), card["about"])


def _card(place: Path) -> Card:
    path = place / CARD
    if not path.is_file():
        raise MetricgradError(
            f"{str(place)!r} holds no model: there is no {CARD} in it; name a folder of `metricgrad train` or of "
            "FitResult.save"
        )
    try:
        card = parse(path.read_bytes())
    except (MetricgradError, OSError) as error:
        raise MetricgradError(f"{str(path)!r} is no card of ours: {error}") from error
    if not fits(card, Card) or card["format"] != FORMAT:
        raise MetricgradError(f"{str(path)!r} is no card of a model of this version")
    return card


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MetricgradError(f"{str(path)!r} cannot be read: {reason}; train the model anew") from error
