"""The folder of one run: what is in it, and whether it belongs to the run that is asked for."""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.training.batches import Data, as_tensor, is_pair

OURS = ("last.ckpt", "model.safetensors", "result.json", "metrics.csv")


def make_folder(folder: Path) -> None:
    """Make the folder of a run, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetricgradError(
            f"out={str(folder)!r} cannot be a folder: {error.strerror}; choose another out"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is either the old one or the whole new one, also after a power cut."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_checkpoint(folder: Path, ours: dict[str, Any]) -> None:
    """Write ``last.ckpt``, whole or not at all; :func:`read_checkpoint` gives ``ours`` back."""
    part = folder / "last.ckpt.part"
    with part.open("wb") as file:
        torch.save({"metricgrad": ours}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / "last.ckpt")


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


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes())


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> str:
    """In words, what differs; an empty string where nothing does."""
    keys = [key for key in {**saved, **asked} if saved.get(key) != asked.get(key)]
    return "; ".join(f"{key} was {saved.get(key)!r} and is now {asked.get(key)!r}" for key in keys)


def check_same(folder: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse to go on with a run that was another one."""
    if found := differences(saved, asked):
        raise MetricgradError(
            f"out={str(folder)!r} holds another run: {found}. Choose another out, or resume=False to start anew"
        )


def clear(folder: Path) -> None:
    """Remove what an earlier run left; nothing that is not ours."""
    for path in [*(folder / name for name in OURS), *folder.glob("events.out.tfevents.*")]:
        path.unlink(missing_ok=True)


def read_result(folder: Path) -> dict[str, Any] | None:
    """``result.json`` of a finished run."""
    path = folder / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Our part of ``last.ckpt``; nothing but tensors and plain containers is ever unpickled."""
    path = folder / "last.ckpt"
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)["metricgrad"]
    except Exception as error:
        raise MetricgradError(
            f"{str(path)!r} is no checkpoint of ours ({type(error).__name__}); pass resume=False to train anew"
        ) from error
