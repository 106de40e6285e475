"""A table's model as a folder: preprocessing, and the weights of one network or several, or LightGBM's trees."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.serialization import read, write
from metricgrad.tables import preprocessing
from metricgrad.tables.model import TableModel
from metricgrad.tables.network import TableNetwork
from metricgrad.tables.preprocessing import Layout, Preprocessing
from metricgrad.tables.schema import Target
from metricgrad.tables.trees import BoostedTrees
from metricgrad.training.average import Average
from metricgrad.training.model_folder import CARD, ModelFolder, open_model_folder, write_model_folder
from metricgrad.writing import write_text

_NETWORK, _TREES = "model.safetensors", "model.txt"
_FILES = {"network": _NETWORK, "lightgbm": _TREES, "average": "model-*.safetensors"}
"""Kind -> what its files are called."""


def save_table_model(model: TableModel, folder: str | os.PathLike[str]) -> Path:
    """Write the folder.

    Raises:
        MetricgradError: where a model is there already, or it cannot be written.
    """
    kind, written = _writers(model.model)
    files = {preprocessing.FILE: model.preprocessing.save, **written}
    return write_model_folder(folder, kind, files, metric=model.metric, decision=model.decision, about=model.card)


def load_table_model(folder: str | os.PathLike[str], *, metric: Any = None) -> TableModel:
    """The model of a folder, ready to answer. Nothing is unpickled, imported or run for it.

    Args:
        folder: written by :func:`save_table_model`.
        metric: the one it was chosen by, where that is not built in; only :meth:`TableModel.evaluate` needs it.

    Raises:
        MetricgradError: for a folder that holds no such model, or one whose files were changed or are torn.
    """
    return table_model_of(open_model_folder(folder, metric=metric))


def table_model_of(opened: ModelFolder) -> TableModel:
    """The model of a folder that was opened.

    Raises:
        MetricgradError: for one of another kind, or whose files do not fit each other.
    """
    place, card = opened.path, str(opened.path / CARD)
    if opened.kind not in _FILES:
        raise MetricgradError(
            f"{str(place)!r} holds a network of one's own, and no table's model; load it in Python, with the factory "
            "of the network: metricgrad.load_model(folder, model=lambda: Net(...))"
        )
    files = sorted(opened.files - {preprocessing.FILE})
    if not files or preprocessing.FILE not in opened.files or fnmatch.filter(files, _FILES[opened.kind]) != files:
        raise MetricgradError(f"{card!r} names other files than its model has; train it anew")
    prepared = Preprocessing.load(place / preprocessing.FILE)
    target = prepared.schema.target
    made = _trees if opened.kind == "lightgbm" else _network
    models = [made(place / name, prepared.layout, target) for name in files]
    model = Average(models) if opened.kind == "average" else models[0]
    outputs = _outputs(target)
    probe = torch.zeros(2) if outputs is None else torch.zeros(2, outputs)
    try:
        fits = opened.decision(probe).shape == probe.shape
    except MetricgradError as error:
        raise MetricgradError(f"{card!r}: {error}") from error
    if not fits:
        raise MetricgradError(f"{card!r}: its decision is not of scores of this shape")
    return TableModel(prepared, model.eval(), opened.decision, opened.metric, opened.about)


def _writers(model: nn.Module) -> tuple[str, dict[str, Callable[[Path], object]]]:
    """The kind of model, and what writes each of its files."""
    if isinstance(model, BoostedTrees):
        return "lightgbm", {_TREES: lambda path: write_text(path, model.text)}
    if isinstance(model, TableNetwork):
        return "network", {_NETWORK: partial(_write_network, model)}
    if isinstance(model, Average) and all(isinstance(one, TableNetwork) for one in model.models):
        each = cast(Sequence[TableNetwork], model.models)
        return "average", {f"model-{n}.safetensors": partial(_write_network, one) for n, one in enumerate(each, 1)}
    raise MetricgradError(
        f"a {type(model).__name__} is no model of tables; a folder holds a TableNetwork, BoostedTrees, or the Average "
        "of TableNetworks"
    )


def _write_network(network: TableNetwork, path: Path) -> None:
    write(path, network.state_dict(), {"network": network.config()})


def _network(path: Path, layout: Layout, target: Target) -> TableNetwork:
    file = read(path, part="network", writer="`metricgrad train`")
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


def _trees(path: Path, layout: Layout, target: Target) -> BoostedTrees:
    try:
        return BoostedTrees(path.read_text(encoding="utf-8"), layout, _outputs(target))
    except (OSError, ValueError) as error:
        raise MetricgradError(f"{str(path)!r} is no model of LightGBM's that fits: {error}") from error


def _outputs(target: Target) -> int | None:
    return len(target.classes) if target.type == "multiclass" else None
