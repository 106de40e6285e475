"""The files of one run: read and written whole, or said what is wrong with them."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import torch

from metricgrad.decisions.kinds import Stored, restored
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.training.run_folder.earlier_versions import checkpoint_of_today, result_of_today
from metricgrad.writing import replacing

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
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


def clear(folder: Path) -> None:
    """Remove what an earlier run left; nothing that is not ours.

    Raises:
        MetricgradError: where something may not be removed.
    """
    left = [each for name in OURS for each in folder.glob(f"{name}.*.part")]  # by a process that was killed
    left += folder.glob(".tmp" + 6 * "[0-9A-Za-z]")  # by safetensors, where the disk was full
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
        found = result_of_today(parse(path.read_bytes()))
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
        found = checkpoint_of_today(torch.load(path, map_location="cpu", weights_only=True)["metricgrad"], ended)
        if not fits(found, SavedRun):
            raise ValueError("it is no state of a run")
    except Exception as error:
        raise _no_checkpoint(path, error) from error
    return found


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
