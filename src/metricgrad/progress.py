"""A progress bar on stderr, of terminals and notebooks, that stays away from what is over in two seconds."""

from __future__ import annotations

import importlib.util
import sys

PATIENCE = 2.0


class ProgressBar:
    """One bar, also as a context; silent where tqdm is not installed.

    Args:
        total: steps in all, where known.
        what: the text before the bar.
        done: steps that an earlier run did.
        unit: what a step is.
        patience: seconds before it is shown; 2 by default.
        shown: whether to show it at all.
    """

    def __init__(
        self, total: int | None, what: str, done: int = 0, unit: str = "step", patience: float | None = None,
        *, shown: bool = True,
    ) -> None:  # fmt: skip
        self._bar = None
        if shown and importlib.util.find_spec("tqdm") and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            from tqdm import tqdm

            delay = PATIENCE if patience is None else patience
            self._bar = tqdm(total=total, initial=done, delay=delay, leave=False, desc=what, unit=unit)

    def advance(self) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.update()

    def update(self, done: int) -> None:
        """So many steps are done."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def say(self, what: str) -> None:
        """Name what is being done."""
        if self._bar is not None:
            self._bar.set_description(what)

    def show(self, valid: float) -> None:
        """Say an epoch's validation value."""
        if self._bar is not None:
            self._bar.set_postfix(valid=f"{valid:.4f}", refresh=False)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
