"""TensorBoard's events of a run: a record for each epoch, written at once and by this process itself.

TensorBoard's own writer appends from a thread, whose failures are a traceback on stderr and a dead thread.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from metricgrad.writing import append


class Events:
    """Curves that TensorBoard shows.

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
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        records = [_record(step=epoch, summary=points)]
        if not self._begun:
            records.insert(0, _record(file_version="brain.Event:2"))
        append(self._path, b"".join(records))
        self._begun = True


def _record(**event: Any) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    RecordWriter(found := io.BytesIO()).write(Event(wall_time=time.time(), **event).SerializeToString())
    return found.getvalue()
