"""A table's model as a folder: preprocessing, weights or trees, and a card that says what it is. Nothing in it is code.

``card.json`` is written last, with the checksums of the other files, so that a folder is whole or no model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from metricgrad.decisions.kinds import Stored, restored, stored
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.metrics.as_metric import stored_metric
from metricgrad.metrics.metric import Metric
from metricgrad.serialization import read, write
from metricgrad.tables import preprocessing
from metricgrad.tables.model import TableModel
from metricgrad.tables.network import TableNetwork
from metricgrad.tables.preprocessing import Layout, Preprocessing
from metricgrad.tables.schema import Target
from metricgrad.tables.trees import BoostedTrees
from metricgrad.training.files import make_folder
from metricgrad.writing import write_text

CARD = "card.json"
FORMAT = 1
_NETWORK, _TREES = "model.safetensors", "model.txt"


class Card(TypedDict):
    """What a folder says of its model; ``about`` is for people, and nothing is made of it."""

    format: int
    model: str
    metric: str | None
    decision: Stored
    files: dict[str, str]
    about: dict[str, Any]


def save_table_model(model: TableModel, folder: str | os.PathLike[str]) -> Path:
    """Write the folder.

    Raises:
        MetricgradError: where a model is there already, or it cannot be written.
    """
    place = Path(folder)
    if (place / CARD).exists():
        raise MetricgradError(f"{str(folder)!r} holds a model already; name another folder, or remove it")
    make_folder(place)
    model.preprocessing.save(place / preprocessing.FILE)
    kind, name = _written(model.model, place)
    card: Card = {
        "format": FORMAT,
        "model": kind,
        "metric": None if model.metric is None else model.metric.spec or model.metric.name,
        "decision": stored(model.decision),
        "files": {each: _checksum(place / each) for each in (preprocessing.FILE, name)},
        "about": model.card,
    }
    write_text(place / CARD, json.dumps(card, indent=1, allow_nan=False) + "\n")
    return place


def load_table_model(folder: str | os.PathLike[str], *, metric: str | Metric | Any | None = None) -> TableModel:
    """The model of a folder, ready to answer. Nothing is unpickled, imported or run for it.

    Args:
        folder: written by :func:`save_table_model`.
        metric: the one it was chosen by, where that is not built in; only :meth:`TableModel.evaluate` needs it.

    Raises:
        MetricgradError: for a folder that holds no such model, or one whose files were changed or are torn.
    """
    place = Path(folder)
    card = _card(place)
    for name, known in card["files"].items():
        if name not in (preprocessing.FILE, _NETWORK, _TREES) or _checksum(place / name) != known:
            raise MetricgradError(f"{str(place / name)!r} is not the file that {CARD} was written for; train it anew")
    if card["files"].keys() != {preprocessing.FILE, _TREES if card["model"] == "lightgbm" else _NETWORK}:
        raise MetricgradError(f"{str(place / CARD)!r} names other files than its model has; train it anew")
    prepared = Preprocessing.load(place / preprocessing.FILE)
    target = prepared.schema.target
    model = (
        _trees(place, prepared.layout, target)
        if card["model"] == "lightgbm"
        else _network(place, prepared.layout, target)
    )
    try:
        decision = restored(card["decision"])
        outputs = _outputs(target)
        probe = torch.zeros(2) if outputs is None else torch.zeros(2, outputs)
        if decision(probe).shape != probe.shape:
            raise MetricgradError("its decision is not of scores of this shape")
        judged_by = None if card["metric"] is None and metric is None else _metric(card["metric"], metric)
    except MetricgradError as error:
        raise MetricgradError(f"{str(place / CARD)!r}: {error}") from error
    return TableModel(prepared, model.eval(), decision, judged_by, card["about"])


def _metric(spec: str | None, passed: Any) -> Metric | None:
    try:
        return stored_metric(spec, passed)
    except MetricgradError:
        if passed is not None:
            raise
        return None  # it answers without


def _card(place: Path) -> Card:
    path = place / CARD
    if not path.is_file():
        raise MetricgradError(
            f"{str(place)!r} holds no model: there is no {CARD} in it; name a folder of `metricgrad train`"
        )
    try:
        card = parse(path.read_bytes())
    except (MetricgradError, OSError) as error:
        raise MetricgradError(f"{str(path)!r} is no card of ours: {error}") from error
    if not fits(card, Card) or card["format"] != FORMAT or card["model"] not in ("network", "lightgbm"):
        raise MetricgradError(f"{str(path)!r} is no card of a table's model of this version")
    return card


def _written(model: nn.Module, place: Path) -> tuple[str, str]:
    """The kind of model, and the file it is in now."""
    if isinstance(model, BoostedTrees):
        write_text(place / _TREES, model.text)
        return "lightgbm", _TREES
    if isinstance(model, TableNetwork):
        write(place / _NETWORK, model.state_dict(), {"network": model.config()})
        return "network", _NETWORK
    raise MetricgradError(
        f"a {type(model).__name__} is no model of tables; a folder holds a TableNetwork or BoostedTrees"
    )


def _network(place: Path, layout: Layout, target: Target) -> TableNetwork:
    file = read(place / _NETWORK, part="network", writer="`metricgrad train`")
    with file.blamed():
        wanted = {
            "numbers": layout.numbers, "flags": len(layout.gaps), "levels": list(layout.levels),
            "outputs": _outputs(target),
        }  # fmt: skip
        config = file.header["network"]
        if not isinstance(config, Mapping) or any(config.get(name, ...) != value for name, value in wanted.items()):
            raise MetricgradError("its network is not of the columns and classes of the preprocessing beside it")
        network = file.made(TableNetwork, config, "network", outlined=True)
        file.fill(network, {})
    return network


def _trees(place: Path, layout: Layout, target: Target) -> BoostedTrees:
    path = place / _TREES
    try:
        return BoostedTrees(path.read_text(encoding="utf-8"), layout, _outputs(target))
    except (OSError, ValueError) as error:
        raise MetricgradError(f"{str(path)!r} is no model of LightGBM's that fits: {error}") from error


def _outputs(target: Target) -> int | None:
    return len(target.classes) if target.type == "multiclass" else None


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MetricgradError(f"{str(path)!r} cannot be read: {error.strerror}; train it anew") from error
