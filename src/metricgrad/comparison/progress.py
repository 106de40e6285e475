"""The progress of a comparison, on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Which loss, which trial or seed, how many runs are done, and how long the rest may take."""

    def __init__(self, total: int, *, shown: bool) -> None:
        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not (shown and console.is_terminal), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)

    def say(self, what: str) -> None:
        """Name the run that begins."""
        self._bar.update(self._task, description=what)

    def advance(self) -> None:
        """One run is done."""
        self._bar.advance(self._task)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
