"""How far a training under a knob controller is: the plain numbers that travel with its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


class SavedState(TypedDict):
    """As files have it, under the names of version 0.1."""

    ticks: int
    periods: int
    batch: int
    names: list[str]


@dataclass
class ControllerState:
    """Counters of one training.

    Attributes:
        steps: optimiser steps counted.
        periods: that have ended.
        batch: rows in a training batch; 0 before the first.
        names: of the knobs in the history.
        held: validation rows there are, where known; not saved.
        undefined: evaluations in a row at which the metric was NaN; not saved.
        resumed: whether a state was loaded, so that the next training is the rest of that run; not saved.
    """

    steps: int = 0
    periods: int = 0
    batch: int = 0
    names: list[str] = field(default_factory=list)
    held: int | None = None
    undefined: int = 0
    resumed: bool = False

    def restart(self) -> None:
        """Another training begins."""
        self.steps, self.periods, self.batch = 0, 0, 0

    def saved(self) -> SavedState:
        """Plain numbers and names."""
        return {"ticks": self.steps, "periods": self.periods, "batch": self.batch, "names": list(self.names)}

    def load(self, saved: SavedState) -> None:
        """Restore what :meth:`saved` gave; what it has beside belongs to others."""
        self.steps, self.periods, self.batch = saved["ticks"], saved["periods"], saved["batch"]
        self.names, self.resumed = list(saved["names"]), True
