"""A progress bar for fitting a loss, shown once it has lasted two seconds and where rich is installed."""

from __future__ import annotations

import importlib.util
import time
from types import TracebackType

PATIENCE = 2.0


class FitBar:
    """A context with ``update``; on stderr.

    Args:
        total: steps in all.
        what: the text before the bar.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._start = time.monotonic()
        self._bar = None
        self._possible = importlib.util.find_spec("rich") is not None

    def __enter__(self) -> FitBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Show how many steps are done."""
        if self._bar is None and self._possible and time.monotonic() - self._start > PATIENCE:
            from rich.console import Console
            from rich.progress import Progress

            console = Console(stderr=True)
            self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
