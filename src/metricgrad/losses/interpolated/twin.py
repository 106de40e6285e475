"""Whether a foreign metric may be trained on by the built-in function of the same value."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.metric import Metric

_FIRST, _EVERY = 3, 256
_TOLERANCE = 1e-5
_DEAR, _TIMED = 0.05, 4


class Twin:
    """Looks on the first three steps and on every 256th whether both have the same values.

    Args:
        metric: any; one that is built in is its own twin.

    Attributes:
        metric: that one.
        left: whether they once had not, so that the metric itself is called from then on.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.left = False
        self._timed, self._each = 0, math.inf

    @property
    def path(self) -> FastPath | None:
        """What to train by; None where the metric has to be called."""
        if self.metric.batched:
            return self.metric.fast_path
        return None if self.left else self.metric.twin

    @property
    def options(self) -> dict[str, Any]:
        """What :attr:`path` is called with."""
        return self.metric.fixed if self.metric.batched else {}

    def due(self, step: int) -> bool:
        """Whether the metric itself is to be called in this step."""
        foreign = self.path is not None and not self.metric.batched
        return foreign and (step < _FIRST or step % _EVERY == 0)

    def compare(self, found: Sequence[Tensor | float], called: Callable[[], Tensor]) -> None:
        """Values of the twin, and a function that calls the metric for the same.

        Warns:
            UserWarning: once, where they differ.
        """
        for ours, theirs in zip(map(float, found), called().tolist(), strict=True):
            both = ours == ours or theirs == theirs
            if both and not abs(ours - theirs) <= _TOLERANCE * max(1.0, abs(theirs)):
                self.left = True
                warnings.warn(
                    f"metric {self.metric.name!r} is {theirs:.6g} on this batch and {ours:.6g} as we compute it: from "
                    "here on it is called itself, which takes longer",
                    stacklevel=9,
                )
                return

    def tell_cost(self, values: Callable[[], Tensor], calls: int) -> Tensor:
        """Values of a metric that has to be called.

        Args:
            values: some.
            calls: the most of one step.

        Warns:
            UserWarning: once, where a step takes 50 ms or more, by the quickest of the first steps: a first call, and a
                machine that is busy for a moment, say nothing about the metric.
        """
        start = time.perf_counter()
        found = values()
        self._each = min(self._each, (time.perf_counter() - start) / len(found))
        self._timed += 1
        if self._timed == _TIMED and self._each * calls >= _DEAR:
            warnings.warn(
                f"metric {self.metric.name!r} can only be called, up to {calls} times in each step, which takes some "
                f"{1000 * self._each * calls:.0f} ms a step; UniLoss(metric, calls=) sets how often",
                stacklevel=9,
            )
        return found
