"""The folder of one run: what is in it, and whether it belongs to the run that is asked for."""

from __future__ import annotations

import errno
import json
import math
import pickle
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from metricgrad.decisions.identity import Identity
from metricgrad.decisions.kinds import Stored, restored, stored
from metricgrad.decisions.threshold import Threshold
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.loss import Loss
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.paper import from_version_0_1
from metricgrad.training.batches import Data, as_tensor, is_pair
from metricgrad.writing import replacing

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
WEIGHTS = "initial weights"
"""What a run began with, in its config; runs of an earlier version did not say it."""

_RENAMED = {"looks": "evaluations"}
"""Options of losses by the names that version 0.1 wrote, and today's."""

OURS = ("last.ckpt", "model.safetensors", "result.json", "metrics.csv", "hparams.yaml")


def make_folder(folder: Path) -> None:
    """Make the folder of a run, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetricgradError(
            f"out={str(folder)!r} cannot be a folder: {error.strerror}; choose another out"
        ) from error


def write_whole(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all, also where the temporary folder is on another disk."""
    make_folder(path.parent)
    with replacing(path) as part, part.open("wb") as file:
        torch.save(checkpoint, file)


@contextmanager
def blamed(folder: Path | None) -> Iterator[None]:
    """A disk that is full, or a folder one may not write in, is said in one sentence; other errors are their own.

    Raises:
        MetricgradError: what was written before is whole, so the same call goes on from there.
    """
    try:
        yield
    except OSError as error:
        inside = error.filename is not None and Path(str(error.filename)).resolve()
        if folder is None or not (error.errno in _FULL or (inside and inside.is_relative_to(folder.resolve()))):
            raise
        raise MetricgradError(
            f"cannot write in out={str(folder)!r}: {error.strerror}; the same call goes on from the last whole epoch"
        ) from error


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
            found = zlib.crc32(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), found)
    return f"{found:08x}"


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes())


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> str:
    """In words, what differs, the values of the first two things; an empty string where nothing does."""
    keys = [key for key in {**saved, **asked} if saved.get(key) != asked.get(key)]
    told = [f"{key} was {saved.get(key)!r} and is now {asked.get(key)!r}" for key in keys[:2]]
    return "; ".join([*told, f"{', '.join(keys[2:])} too"] if keys[2:] else told)


def check_same(folder: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse to go on with a run that was another one."""
    saved = _asked_today({**saved, "loss": _described_today(saved.get("loss"))})
    if WEIGHTS not in saved:
        asked = {key: value for key, value in asked.items() if key != WEIGHTS}
    if found := differences(saved, asked):
        raise MetricgradError(
            f"out={str(folder)!r} holds another run: {found}. "
            + ("Make the model from the seed it had then, choose" if WEIGHTS in found else "Choose")
            + " another out, or resume=False to start anew"
        )


def _described_today(loss: Any) -> Any:
    """What :func:`describe` said of a loss in version 0.1, with today's names of its options."""
    try:
        found = json.loads(loss, object_hook=lambda options: {_RENAMED.get(k, k): v for k, v in options.items()})
    except (TypeError, ValueError, RecursionError):  # a loss by name, or no loss of ours
        return loss
    match found:
        case {"form": [Interpolated.kind, dict(options)]}:
            found["form"] = list(from_version_0_1(options))
    return json.dumps(found, sort_keys=True) if isinstance(found, dict | list) else loss


def _asked_today(config: dict[str, Any]) -> dict[str, Any]:
    """What version 0.1 asked for as ``threshold`` is a decision."""
    if "threshold" not in config:
        return config
    threshold = config.pop("threshold")
    names = {"auto": "auto", None: "none"}
    return {**config, "decision": names[threshold] if threshold in names else Threshold(threshold).described()}


def forget_own_weights(finished: dict[str, Any], config: dict[str, Any]) -> None:
    """The weights that a finished run delivered may come back as well as those it began with."""
    if finished.get("delivered") == config.get(WEIGHTS):
        config[WEIGHTS] = finished["config"].get(WEIGHTS)


def clear(folder: Path) -> None:
    """Remove what an earlier run left; nothing that is not ours.

    Raises:
        MetricgradError: where something may not be removed.
    """
    left = [each for name in OURS for each in folder.glob(f"{name}.*.part")]  # by a process that was killed
    for path in [*(folder / name for name in OURS), *folder.glob("events.out.tfevents.*"), *left]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise MetricgradError(
                f"cannot remove {str(path)!r}, of an earlier run: {error.strerror}; choose another out"
            ) from error


class Finished(TypedDict):
    """``result.json``: what it always has; later versions may say more."""

    config: dict[str, Any]
    history: list[dict[str, float | None]]
    decision: Stored


class _EveryRun(TypedDict):
    config: dict[str, Any]
    record: dict[str, Any]


class SavedRun(_EveryRun, total=False):
    """Our part of ``last.ckpt``; a run of one model has Lightning's part beside it, a population a part of its own."""

    population: dict[str, Any]


def read_result(folder: Path) -> dict[str, Any] | None:
    """``result.json`` of a finished run; None also where it is torn and ``last.ckpt`` has what it takes to write it.

    Raises:
        MetricgradError: where it is torn and there is no ``last.ckpt``.
    """
    path = folder / "result.json"
    try:
        found = _decided_today(parse(path.read_bytes()))
        hints = get_type_hints(Finished)
        if isinstance(found, dict) and all(k in found and fits(found[k], hint) for k, hint in hints.items()):
            restored(found["decision"])
            return found
        reason = "it is no result of a run"
    except FileNotFoundError:
        return None
    except (OSError, MetricgradError) as error:
        reason = str(error)
    if (folder / "last.ckpt").exists():
        return None
    raise MetricgradError(f"{str(path)!r} cannot be read: {reason}; pass resume=False to train anew")


def _decided_today(found: Any) -> Any:
    """The threshold that version 0.1 wrote in ``result.json`` is a decision."""
    if not isinstance(found, dict) or "decision" in found or not fits(found.get("threshold", ""), float | None):
        return found
    threshold = found["threshold"]
    return {**found, "decision": stored(Identity() if threshold is None else Threshold(threshold))}


def read_checkpoint(folder: Path, *, ended: bool = False) -> dict[str, Any] | None:
    """Our part of ``last.ckpt``, a :class:`SavedRun`; nothing but tensors and plain containers is ever unpickled.

    Args:
        folder: of the run.
        ended: whether the run did.

    Raises:
        MetricgradError: for a file that is torn, or none of ours.
    """
    path = folder / "last.ckpt"
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # torch's older formats say how much memory they want
                raise ValueError("it is no zip archive")
        found = _of_this_version(torch.load(path, map_location="cpu", weights_only=True)["metricgrad"], ended)
        if not fits(found, SavedRun):
            raise ValueError("it is no state of a run")
    except Exception as error:
        raise _no_checkpoint(path, error) from error
    return found


def _of_this_version(found: Any, ended: bool) -> Any:
    """What version 0.1 wrote, under today's names; where a run ended, thresholds are what it delivered."""
    if not isinstance(found, dict) or "record" in found:
        return found
    if "population" in found:
        rest = dict(found["population"])
        record = {name: rest.pop(name) for name in ("epoch", "stale", "best", "kept")}
        for kept in record["kept"]:
            threshold = kept.pop("threshold")
            kept["decision"] = _decided_today({"threshold": threshold})["decision"] if ended else None
        return {"config": found["config"], "record": record, "population": rest}
    history, best = found["history"], found["best"] or {"value": math.nan, "epoch": -1, "state": {}}
    kept = {name: best[name] for name in ("value", "state")}
    record = {"epoch": len(history), "stale": len(history) - 1 - best["epoch"], "best": best["value"]}
    return {"config": found["config"], "record": {**record, "kept": [{**kept, "history": history}]}}


@contextmanager
def resumed(path: Path | None, begun: Callable[[], bool]) -> Iterator[None]:
    """What goes wrong while ``last.ckpt`` is taken up is its fault; a MetricgradError and what comes later are not.

    Args:
        path: of the checkpoint; None where the run is a new one.
        begun: whether the run goes on by itself.
    """
    try:
        yield
    except (MetricgradError, OSError):
        raise
    except Exception as error:
        if path is None or begun():
            raise
        raise _no_checkpoint(path, error) from error


def _no_checkpoint(path: Path, error: Exception) -> MetricgradError:
    what = type(error).__name__
    if not isinstance(error, pickle.UnpicklingError):  # whose text says how to load the file all the same
        what += f": {(str(error).splitlines() or [''])[0][:200]}"
    return MetricgradError(f"{str(path)!r} is no checkpoint of ours ({what}); pass resume=False to train anew")
