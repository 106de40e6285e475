"""Who trains what: a file for each run that is being trained, whose worker keeps it fresh.

A claim keeps two workers from training the same run; it counts nothing. Where one is wrong (a worker that stood still
for longer than a lease, two machines of one name), a run is trained twice and recorded once, by
:meth:`metricgrad.comparison.records.Records.add`.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metricgrad.errors import MetricgradError
from metricgrad.processes import may_run, this_process
from metricgrad.training.run_folder.files import make_folder

LEASE = 60.0
"""Seconds after which a claim that nobody kept fresh is anybody's."""


class Claims:
    """The claims of one worker, in the folder ``claims`` of a study.

    Args:
        study: the folder of the study.
        lease: see :data:`LEASE`.
    """

    def __init__(self, study: Path, lease: float = LEASE) -> None:
        self.folder, self.lease = study / "claims", lease

    def take(self, run: str) -> bool:
        """Claim a run, unless somebody else has; to be called by who holds the study's folder.

        Args:
            run: names it.
        """
        path = self._path(run)
        if self._taken(path):
            return False
        make_folder(self.folder)
        try:
            path.write_text("{} {}\n".format(*this_process()), encoding="utf-8")
        except OSError as error:
            raise MetricgradError(f"cannot write {str(path)!r}: {error.strerror}; choose another out") from error
        return True

    @contextmanager
    def kept(self, run: str) -> Iterator[None]:
        """Keep a claim fresh while the block trains it, and give it back at the end."""
        path, over = self._path(run), threading.Event()

        def freshen() -> None:
            while not over.wait(self.lease / 4):
                with suppress(OSError):
                    os.utime(path)

        thread = threading.Thread(target=freshen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(OSError):  # it ends with its lease, or with this process
                path.unlink()

    def _taken(self, path: Path) -> bool:
        """Whether a claim is there, fresh, and of a process that is not known to be dead."""
        try:
            claim = re.fullmatch(r"(\S+) (\d+)\n", path.read_text(encoding="utf-8"))
            age = self._now() - path.stat().st_mtime
        except (OSError, ValueError):
            return False
        if claim is None:  # torn when its worker died or its disk was full: half a process number is another's
            return False
        worker = claim[1], int(claim[2])
        own = worker == this_process()  # which trains one run at a time, and asks for another now
        return age < self.lease and not own and may_run(*worker)

    def _now(self) -> float:
        """By the clock of the file system, which is the same for all machines."""
        clock = self.folder / ".clock"
        clock.touch()
        return clock.stat().st_mtime

    def _path(self, run: str) -> Path:
        """A name that every file system takes, another one for every run."""
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', run)[:60]}-{zlib.crc32(run.encode()):08x}"
