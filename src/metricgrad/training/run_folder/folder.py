"""The folder of a run: ``last.ckpt``, ``metrics.csv`` and events after each epoch, and at the end what is delivered."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.training.result import FitResult
from metricgrad.training.run_folder import files, fingerprints
from metricgrad.training.run_record import RunRecord
from metricgrad.training.stored_result import write_finished
from metricgrad.writing import append, write_text


class RunFolder:
    """What a run of one model or of several writes, and finds again.

    Args:
        path: of this run and nothing else.
        config: what it was asked for, JSON-able; an earlier run of another configuration is refused.
        resume: False clears the folder.

    Attributes:
        finished: ``result.json`` of the run, or None where it did not end.

    Raises:
        MetricgradError: for a folder with something else in it.
    """

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool) -> None:
        self.path, self.config = path, config
        files.make_folder(path)
        if not resume:
            files.clear(path)
        self.finished = files.read_result(path)
        if self.finished is not None:
            fingerprints.forget_own_weights(self.finished, config)
            fingerprints.check_same(path, self.finished["config"], config)
        self._events = Events(path)

    @property
    def checkpoint(self) -> Path:
        """Of the last whole epoch."""
        return self.path / "last.ckpt"

    def take_up(self, record: RunRecord, models: Sequence[nn.Module], *, whole: bool = False) -> dict[str, Any] | None:
        """Go on where the last whole epoch ended.

        Args:
            record: of the run.
            models: that are trained.
            whole: whether a run that ended is of more models than ``result.json`` has, and a checkpoint that of them.

        Returns:
            What :meth:`state` gave then, or None for a new run.

        Raises:
            MetricgradError: for a checkpoint of another configuration, and for one that cannot be read.
        """
        found = files.read_checkpoint(self.path, ended=self.finished is not None)
        if found is None:
            if whole and self.finished is not None:
                raise MetricgradError(
                    f"out={str(self.path)!r} has the result of a population and no last.ckpt, which holds its other "
                    "children; put it back, choose another out, or pass resume=False to train anew"
                )
            return None
        fingerprints.check_same(self.path, found["config"], self.config)
        if whole and not isinstance(found.get("population", {}).get("stacked"), bool):
            raise MetricgradError(f"{str(self.checkpoint)!r} has no population; pass resume=False to train anew")
        with files.resumed(self.checkpoint, lambda: False):
            record.load_state(found["record"], models)
        return found

    def state(self, record: RunRecord, **more: Any) -> dict[str, Any]:
        """Our part of ``last.ckpt``: plain containers and tensors only, because loading unpickles nothing else."""
        return {"config": self.config, "record": record.state(), **more}

    def keep(self, record: RunRecord, **more: Any) -> None:
        """``last.ckpt``."""
        files.write_whole(self.checkpoint, {"metricgrad": self.state(record, **more)})

    def write(self, record: RunRecord, **more: Any) -> None:
        """After an epoch in an engine of our own: ``last.ckpt``, ``metrics.csv`` and TensorBoard's events."""
        self.keep(record, **more)
        self.write_values(record)

    def write_values(self, record: RunRecord) -> None:
        """``metrics.csv`` and TensorBoard's events: every epoch, and where there are several models each of them."""
        several = len(record.kept) > 1
        head = ["epoch", *["child"] * several, "train_loss", "valid"]
        rows = [[row["epoch"], *[model] * several, row["train_loss"], row["valid"]] for model, row in record.rows()]
        write_text(self.path / "metrics.csv", "".join(",".join(map(str, row)) + "\n" for row in [head, *rows]))
        last = {f"/{model}" if several else "": kept.history[-1] for model, kept in enumerate(record.kept)}
        points = {f"{name}{model}": row[name] for name in ("train_loss", "valid") for model, row in last.items()}
        self._events.add(points, record.epoch - 1)

    def finish(self, result: FitResult) -> None:
        """``model.safetensors`` and ``result.json`` of the model that is delivered, where they are not there yet."""
        result.path = self.path
        if self.finished is None:
            write_finished(result, self.path, self.config)


class Events:
    """Curves that TensorBoard shows: a record for each epoch, written at once and by this process itself.

    TensorBoard's own writer appends from a thread, whose failures are a traceback on stderr and a dead thread.

    Args:
        folder: of the run. Each time the run is taken up its events have a file of their own there, because a reader
            goes no further than a record that a power cut tore.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = False

    @cached_property
    def _path(self) -> Path:
        """Files are read in the order of their names."""
        return self._folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        """Append a point to each curve.

        Raises:
            MetricgradError: see :func:`metricgrad.writing.append`.
        """
        points = [{"tag": name, "simple_value": value} for name, value in values.items()]
        records = [_record(step=epoch, summary={"value": points})]
        if not self._begun:
            records.insert(0, _record(file_version="brain.Event:2"))
        append(self._path, b"".join(records))
        self._begun = True


def _record(**event: Any) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  # made on import
    from tensorboard.summary.writer.record_writer import RecordWriter

    RecordWriter(found := io.BytesIO()).write(Event(wall_time=time.time(), **event).SerializeToString())
    return found.getvalue()
