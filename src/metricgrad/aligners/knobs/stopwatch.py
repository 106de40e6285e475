"""How much of a training's time an aligner takes."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds of a training from its first step to its last, and those of them that evaluations and moves took.

    Attributes:
        spent: seconds of evaluations and moves.
    """

    def __init__(self) -> None:
        self._began, self._ended, self.spent = 0.0, 0.0, 0.0

    def passed(self, started: float, *, spent: bool) -> None:
        """Count the time since ``started``, all of it as training and, where ``spent``, as spent too."""
        self._ended = time.perf_counter()
        self._began = self._began or started
        if spent:
            self.spent += self._ended - started

    @property
    def share(self) -> float:
        """Of the training's time; 0 before its first step."""
        elapsed = self._ended - self._began
        return self.spent / elapsed if elapsed else 0.0
