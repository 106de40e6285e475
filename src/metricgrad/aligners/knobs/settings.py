"""The settings of a knob controller: how often it evaluates, how far a move goes, and when the first one is."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal

from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number, checked_whole

Where = Literal["best", "zero"]


@dataclass(frozen=True)
class KnobSettings:
    """What a controller is asked for; see :class:`KnobController`, whose arguments they are.

    Raises:
        MetricgradError: for settings out of range.
    """

    every: int | None = None
    evaluations: int = 1
    discount: float = 0.9
    step_size: float = 0.1
    warm_up: int = 3
    clamp: bool = True
    rows: int | None = 1024
    threshold: Where = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threshold not in ("best", "zero"):
            raise MetricgradError(f"threshold is {self.threshold!r}; expected 'best' or 'zero'")
        for name, least in (("every", 1), ("rows", 1), ("evaluations", 1), ("warm_up", 0), ("seed", None)):
            value = getattr(self, name)
            if value is not None or name not in ("every", "rows"):
                checked_whole(name, value, least=least)
        if self.every is not None and self.evaluations > self.every:
            raise MetricgradError(
                f"evaluations is {self.evaluations} in a period of every={self.every} steps; it cannot be more"
            )
        checked_number("discount", self.discount, most=1)
        checked_number("step_size", self.step_size)

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return asdict(self)


def renamed(given: int | None, name: str, value: int, now: str) -> int:
    """What was given under a former name, for one version, or else the value under today's."""
    if given is None:
        return value
    warnings.warn(f"{name} is now called {now}", DeprecationWarning, stacklevel=4)
    return given
