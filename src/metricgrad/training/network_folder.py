"""A network of one's own as a folder: weights and the loss, and back with a factory of the network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from torch import nn

from metricgrad import serialization
from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.training.model_folder import ModelFolder, write_model_folder
from metricgrad.training.options import made_by
from metricgrad.training.outputs import Output
from metricgrad.training.trained_model import TrainedModel
from metricgrad.training.weights import load_weights, save_weights

KIND = "module"
_WEIGHTS, _LOSS = "weights.safetensors", "loss.safetensors"


def save_network(
    trained: TrainedModel, folder: str | os.PathLike[str], *, loss: nn.Module | None, about: Mapping[str, Any]
) -> Path:
    """Write the folder; see :meth:`metricgrad.FitResult.save`.

    Args:
        trained: network, metric, decision.
        folder: see there.
        loss: it was trained on; in a file of its own where it is one of ours that a file can describe.
        about: for people.
    """
    network = trained.model
    header = serialization.header_of({"output": trained.output})
    files: dict[str, Callable[[Path], object]] = {_WEIGHTS: lambda path: save_weights(network, path, header)}
    if isinstance(loss, Loss):
        with suppress(MetricgradError):  # of a form made by hand there are words only, in what was asked for
            loss.described()
            files[_LOSS] = loss.save
    return write_model_folder(
        folder, KIND, files, metric=trained.metric, decision=trained.decision,
        about={"network": type(network).__name__, **about},
    )  # fmt: skip


def network_of(opened: ModelFolder, model: nn.Module | Callable[[], nn.Module] | None) -> TrainedModel:
    """The model of a folder.

    Args:
        opened: the folder.
        model: the network, or a zero-argument factory of it, of the architecture that was saved.

    Raises:
        MetricgradError: without a network, for one of another architecture, and for files that are torn.
    """
    path = opened.path / _WEIGHTS
    if model is None:
        raise MetricgradError(
            f"{str(opened.path)!r} holds the weights of a {opened.about.get('network', 'network')!s:.40}, and a file "
            "names no code: pass the factory of the network, as load_model(folder, model=lambda: Net(...))"
        )
    if _WEIGHTS not in opened.files:
        raise MetricgradError(f"{str(opened.path)!r} has no {_WEIGHTS}; train the model anew")
    output = serialization.read_header(path, part="output", writer="FitResult.save")["output"]
    if output not in (None, *get_args(Output)):
        raise MetricgradError(f"{path}: its output is {output!r:.40}; expected one of {', '.join(get_args(Output))}")
    with kept_all_randomness():
        network = model if isinstance(model, nn.Module) else made_by(model, "model")
    try:
        load_weights(network, path)
    except MetricgradError as error:
        raise MetricgradError(f"{path}: {error}; pass the factory of the network that was saved") from error
    return TrainedModel(network.eval(), opened.metric, opened.decision, output=output, card=opened.about)


def finite(value: float) -> float | None:
    """As JSON has it: None in place of NaN and of what is infinite."""
    return value if math.isfinite(value) else None
