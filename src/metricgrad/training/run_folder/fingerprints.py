"""What a run was asked for, as plain data: two runs are the same where these say the same."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.serialization import bytes_of
from metricgrad.training.batches import Data, as_tensor, is_pair
from metricgrad.training.run_folder.earlier_versions import config_of_today

WEIGHTS = "initial weights"
"""What a run began with, in its config; runs of an earlier version did not say it."""


def describe(thing: Any) -> str:
    """A loss or an optimiser in words: its name, how it is made, or how it shows itself."""
    if isinstance(thing, str):
        return thing
    if isinstance(thing, Loss):
        with suppress(MetricgradError):  # a form made by hand has a repr only
            return json.dumps(thing.described(), sort_keys=True)
    return repr(thing) if isinstance(thing, nn.Module) else getattr(thing, "__qualname__", type(thing).__name__)


def describe_data(data: Data) -> str:
    """Shapes and a checksum of tensors; type and length of anything else."""
    if is_pair(data):
        parts = [as_tensor(part) for part in data]
        return " ".join(f"{tuple(p.shape)}:{_checksum(p):08x}" for p in parts)
    try:
        return f"{type(data).__name__}[{len(data)}]"
    except TypeError:
        return type(data).__name__


def describe_model(model: nn.Module) -> str:
    """Class, number of parameters, and a checksum of their names and shapes; not their values."""
    shapes = ";".join(f"{name}{tuple(value.shape)}" for name, value in model.state_dict().items())
    return f"{type(model).__name__}[{sum(p.numel() for p in model.parameters())}]:{zlib.crc32(shapes.encode()):08x}"


def describe_parts(train: Data, valid: Data) -> dict[str, str]:
    """What a run was given to train on and to choose by."""
    return {"train": describe_data(train), "valid": describe_data(valid)}


def describe_start(model: nn.Module) -> dict[str, str]:
    """What network a run was given, and the weights it began with."""
    return {"model": describe_model(model), WEIGHTS: describe_weights(model)}


def describe_weights(model: nn.Module) -> str:
    """A checksum of the values of all weights and buffers."""
    found = 0
    for value in model.state_dict().values():
        if isinstance(value, Tensor) and not is_lazy(value):
            found = zlib.crc32(bytes_of(value.cpu()).numpy().tobytes(), found)
    return f"{found:08x}"


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(bytes_of(tensor.cpu()).numpy().tobytes())


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> str:
    """In words, what differs, the values of the first two things; an empty string where nothing does."""
    keys = [key for key in {**saved, **asked} if saved.get(key) != asked.get(key)]
    told = [f"{key} was {saved.get(key)!r} and is now {asked.get(key)!r}" for key in keys[:2]]
    return "; ".join([*told, f"{', '.join(keys[2:])} too"] if keys[2:] else told)


def check_same(folder: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse to go on with a run that was another one."""
    saved = config_of_today(saved)
    if WEIGHTS not in saved:
        asked = {key: value for key, value in asked.items() if key != WEIGHTS}
    if found := differences(saved, asked):
        raise MetricgradError(
            f"out={str(folder)!r} holds another run: {found}. "
            + ("Make the model from the seed it had then, choose" if WEIGHTS in found else "Choose")
            + " another out, or resume=False to start anew"
        )


def forget_own_weights(finished: dict[str, Any], config: dict[str, Any]) -> None:
    """The weights that a finished run delivered may come back as well as those it began with."""
    if finished.get("delivered") == config.get(WEIGHTS):
        config[WEIGHTS] = finished["config"].get(WEIGHTS)
