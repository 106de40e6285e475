"""How often validation is evaluated, and on how many rows, so that it stays below a tenth of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metricgrad.aligners.knobs.settings import KnobSettings

PERIODS = 100
"""Periods in a training whose length is known, where it is long enough for so many."""

SHORTEST, LONGEST, UNKNOWN = 20, 200, 50
"""Steps in a period: the fewest and the most, and where the length of training is not known."""

FEWEST = 256
"""Rows that an evaluation has at least, where there are so many: fewer say too little of a metric."""

ALLOWED = 0.2
"""Validation rows for each training row. A row that is only scored costs a third of one that is trained on, so this is
a fifteenth of training; the rest of the tenth is for the metric and the move."""


@dataclass(frozen=True)
class Schedule:
    """When a controller evaluates in one training, and when it moves.

    Attributes:
        period: optimiser steps between moves.
        rows: validation rows in an evaluation, at most; None for all.
        evaluations: of a period, in its last steps.
        warm_up: periods in which nothing moves.
        total_steps: of the training, where known.
    """

    period: int
    rows: int | None
    evaluations: int
    warm_up: int
    total_steps: int | None

    @classmethod
    def of(
        cls, settings: KnobSettings, total_steps: int | None, *, batch: int, held: int | None, quadratic: bool
    ) -> Schedule:
        """What follows from settings and sizes alone, and never from a clock, so that a run can be repeated.

        Args:
            settings: an ``every`` among them is taken as it is.
            total_steps: in the training, where known.
            batch: rows in a training batch; 0 where not known.
            held: validation rows there are, where known.
            quadratic: whether the metric compares all rows with all.
        """
        period, rows = settings.every, settings.rows
        if period is None:
            rows = rows if rows is None or held is None else max(1, min(rows, held))
            rows = min(rows, FEWEST) if rows is not None and quadratic else rows
            period, rows = period_and_rows(total_steps, batch, rows, settings.evaluations)
        return cls(period, rows, settings.evaluations, settings.warm_up, total_steps)

    @property
    def first_move(self) -> int:
        """The step after which knobs move for the first time."""
        return (self.warm_up + 1) * self.period

    def due(self, step: int) -> bool:
        """Whether validation is evaluated after this step, one of a period's last."""
        return -step % self.period < self.evaluations

    def progress(self, step: int) -> float | None:
        """The share of training done, where its length is known."""
        return None if not self.total_steps else min(1.0, step / self.total_steps)


def period_and_rows(total_steps: int | None, batch: int, rows: int | None, evaluations: int) -> tuple[int, int | None]:
    """Steps in a period, and rows in an evaluation.

    The constant cost of an evaluation and a move is about that of one step of a small network, which is why no period
    is shorter than 20 steps.

    Args:
        total_steps: in the training, where known.
        batch: rows in a training batch; 0 where not known, and then rows are as asked for.
        rows: asked for, at most; None for all there are, whatever that costs.
        evaluations: in a period.
    """
    period = UNKNOWN if total_steps is None else min(max(total_steps // PERIODS, SHORTEST), LONGEST)
    period = max(period, evaluations)
    if not batch or rows is None:
        return period, rows
    each = ALLOWED * batch / evaluations
    period = max(period, math.ceil(min(rows, FEWEST) / each))
    return period, min(rows, int(each * period))
