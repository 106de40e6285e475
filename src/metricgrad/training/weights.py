"""The weights of anybody's network in a safetensors file, and back into a network of the same architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.writing import replacing


def save_weights(model: nn.Module, path: Path, header: Mapping[str, str] | None = None) -> None:
    """Write one file, weights that are tied once.

    Raises:
        MetricgradError: where it cannot be written, and for a network that keeps state which is no tensor.
    """
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise MetricgradError(
                f"{type(model).__name__} keeps state that is no tensor ({name!r} is a {type(value).__name__}), which "
                "no file of weights holds; make it a buffer, or part of what the model's factory makes"
            )
    with replacing(path) as part:
        save_model(model, str(part), dict(header or {}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a file.

    Raises:
        MetricgradError: for a file that is torn or has NaN where the network has none, and for one of another
            architecture; in words that go on after the name of the file and a colon.
    """
    try:
        with safe_open(str(path), "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        before = {name: value.isnan() for name, value in own.items() if value.is_floating_point()}
        if found := _difference(own, shapes):
            raise MetricgradError(f"its weights are not those of this {type(model).__name__}: {found}")
        load_model(model, str(path))
    except MetricgradError:
        raise
    except Exception as error:  # whatever a malformed file makes safetensors or torch raise
        raise MetricgradError((str(error).splitlines() or [type(error).__name__])[0]) from error
    for name, value in model.state_dict().items():
        if name in before and bool((value.isnan() & ~before[name]).any()):
            raise MetricgradError(f"it has NaN in {name!r}")


def _difference(own: Mapping[str, Tensor], shapes: Mapping[str, Any]) -> str:
    """The first thing that tells the network from the one the file was written of; an empty string for none."""
    if unknown := [name for name in shapes if name not in own]:
        return f"the file has {unknown[0]!r}, and the network has not"
    there = {own[name].data_ptr() for name in shapes if own[name].numel()}
    if missing := [name for name in own if name not in shapes and own[name].data_ptr() not in there]:
        return f"the network has {missing[0]!r}, and the file has not"
    for name, shape in shapes.items():
        if tuple(own[name].shape) != shape:
            return f"{name!r} is {shape} in the file and {tuple(own[name].shape)} in the network"
    return ""
