"""How far a study is, on stderr: a live table of its losses in a terminal or a notebook, else a line for each run."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.records import Record

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class Recorded(Protocol):
    """The runs recorded so far, in the order in which they were."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record]: ...


class StudyDisplay:
    """Tells of every run that begins and ends; a context, which says at a Ctrl-C what is kept.

    Args:
        task: its name.
        folder: where the runs are kept.
        higher_is_better: the metric's direction, for the best validation value so far.
        shown: whether to say anything while it goes on.
    """

    def __init__(self, task: str, folder: Path, *, higher_is_better: bool, shown: bool = True) -> None:
        self._task, self._folder, self._best = task, folder, max if higher_is_better else min
        self._records: Recorded = list[Record]()
        self._now: tuple[str, str] | None = None
        self._began, self._before, self._said, self._total = 0.0, 0, 0, 0
        self._noted = False
        self._shown, self._live = shown, _live() if shown else None

    def __enter__(self) -> StudyDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; {self._kept} runs are kept in {self._folder}, and the same command goes on from there"
            ) from error

    def watch(self, records: Recorded) -> None:
        """What is recorded from now on is told, by whatever process; what is there already is counted."""
        self._records, self._before, self._said = records, len(records), len(records)
        self._began = time.perf_counter()

    def note(self, text: str | None) -> None:
        """Say something once, where there is anything to say and nothing was said before."""
        if text is not None and not self._noted and self._shown:
            self._noted = True
            if self._live is not None:
                self._live.console.print(f"note: {text}", highlight=False, markup=False)
            else:
                print(f"note: {text}", file=sys.stderr, flush=True)

    def expect(self, total: int) -> None:
        """So many runs there are in all."""
        self._total = total

    def begin(self, loss: str, what: str) -> None:
        """This process begins a run."""
        self._now = (loss, what)
        self._refresh()

    def wait(self) -> None:
        """Others train what is left."""
        self._now = None
        self._refresh()

    def look(self) -> None:
        """Tell of every run that was recorded since."""
        new = list(self._records)[self._said :]
        self._said += len(new)
        self._refresh()
        if self._shown and self._live is None:
            for record in new:
                what = f"seed {record['seed']}" if "seed" in record else f"trial {record['trial'] + 1}"
                value = "failed" if record["valid"] is None else f"valid {six_digits(record['valid'])}"
                seconds = "" if record["seconds"] is None else f", {record['seconds']:.1f} s"
                print(f"{record['loss']}, {what}: {value}{seconds}{self._to_go()}", file=sys.stderr, flush=True)

    def table(self) -> Table:
        """Every loss, how many of its runs are recorded, and its best validation value so far."""
        from rich.markup import escape
        from rich.table import Table

        shown = Table(title=escape(f"{self._task}: {self._kept} runs{self._to_go()}"), title_justify="left")
        for name in ("loss", "trials", "final runs", "best valid", "now"):
            shown.add_column(name, justify="left" if name in ("loss", "now") else "right", overflow="fold")
        by_loss: dict[str, list[Record]] = {}
        for record in self._records:
            by_loss.setdefault(record["loss"], []).append(record)
        if self._now is not None:
            by_loss.setdefault(self._now[0], [])
        for loss, records in by_loss.items():
            values = [record["valid"] for record in records if record["valid"] is not None]
            trials = sum("trial" in record for record in records)
            best = six_digits(self._best(values)) if values else ""
            now = self._now[1] if self._now is not None and self._now[0] == loss else ""
            shown.add_row(escape(loss), str(trials), str(len(records) - trials), best, now)
        return shown

    @property
    def _kept(self) -> int:
        return len(self._records)

    def _to_go(self) -> str:
        """How many runs are left, and about how long they take; nothing where none is."""
        left, new = self._total - self._kept, self._kept - self._before
        if left <= 0:
            return ""
        if new <= 0:
            return f"; {left} to go"
        return f"; {left} to go, about {in_words(left * (time.perf_counter() - self._began) / new)}"

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self.table(), refresh=True)


def in_words(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> in_words(8), in_words(200), in_words(9000)
        ('8 s', '3 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _live() -> Live | None:
    """A place on stderr that is written over; None where stderr is a file or a pipe."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    alive = console.is_terminal or console.is_jupyter
    return Live(console=console, auto_refresh=False, transient=True) if alive else None
