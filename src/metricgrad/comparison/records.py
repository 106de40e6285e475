"""The results file: one JSON line for each finished run, never torn, never written by two processes at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.training.files import differences, make_folder, write_atomically

Record = dict[str, Any]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; a killed process lets go of it."""
    from filelock import FileLock, Timeout

    make_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise MetricgradError(
            f"out={str(folder)!r} is in use by another process; wait until it ends, or choose another out"
        ) from error
    try:
        yield
    finally:
        lock.release()


class Records:
    """``results.jsonl`` in a locked folder.

    A line is written by one call, flushed and synced before the next run begins. A process killed while writing
    leaves at most one line without its newline; opening takes that line off, and its run is done again.

    Args:
        folder: a folder held by :func:`locked`.
        config: what the study is; another one in the same folder is refused.

    Raises:
        MetricgradError: for a folder that holds another study, or a line that is no JSON.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.path = folder / "results.jsonl"
        _check_config(folder, config)
        self._records = self._open()

    def _open(self) -> list[Record]:
        if not self.path.exists():
            return []
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        records = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise MetricgradError(
                    f"{str(self.path)!r}, line {number}, is no JSON; remove the line, and its run is done again"
                ) from error
        return records

    def add(self, record: Record) -> Record:
        """Append one record durably, and return it as a reader of the file would get it."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._records.append(json.loads(line))
        return self._records[-1]

    def trials(self, loss: str) -> list[Record]:
        """The trials of a loss, in order."""
        return sorted((r for r in self._records if r["loss"] == loss and "trial" in r), key=lambda r: r["trial"])

    def run(self, loss: str, seed: int) -> Record | None:
        """The run of a loss with a seed."""
        return next((r for r in self._records if r["loss"] == loss and r.get("seed") == seed), None)


def _check_config(folder: Path, config: dict[str, Any]) -> None:
    path = folder / "config.json"
    config = json.loads(json.dumps(config))
    if not path.exists():
        if (folder / "results.jsonl").exists():
            raise MetricgradError(f"{str(folder)!r} has results.jsonl without its config.json; choose another out")
        write_atomically(path, json.dumps(config, indent=1))
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    # a loss may join a study later; one that is already there must be what it was, with the space it had
    by_loss = ("losses", "spaces")
    joined = {key: {**saved.get(key, {}), **config.get(key, {})} for key in by_loss}
    kept = {key: {**config.get(key, {}), **saved.get(key, {})} for key in by_loss}
    if found := differences({**saved, **kept}, {**config, **joined}):
        raise MetricgradError(f"out={str(folder)!r} holds another study: {found}. Choose another out")
    if any(joined[key] != saved.get(key, {}) for key in by_loss):
        write_atomically(path, json.dumps({**saved, **joined}, indent=1))
