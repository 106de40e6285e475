"""How often validation is looked at, and on how many rows, so that looking stays below a tenth of training."""

from __future__ import annotations

import math

PERIODS = 100
"""Periods in a training whose length is known, where it is long enough for so many."""

SHORTEST, LONGEST, UNKNOWN = 20, 200, 50
"""Steps in a period: the fewest and the most, and where the length of training is not known."""

FEWEST = 256
"""Rows that a look has at least, where there are so many: fewer say too little of a metric."""

ALLOWED = 0.2
"""Validation rows for each training row. A row that is only scored costs a third of one that is trained on, so this is
a fifteenth of training; the rest of the tenth is for the metric and the move."""


def pace(total_steps: int | None, batch: int, rows: int | None, looks: int) -> tuple[int, int | None]:
    """Steps in a period, and rows in a look.

    It follows from sizes alone and never from a clock, so that a run can be repeated. The constant cost of a look and
    a move is about that of one step of a small network, which is why no period is shorter than 20 steps.

    Args:
        total_steps: in the training, where known.
        batch: rows in a training batch; 0 where not known, and then rows are as asked for.
        rows: asked for, at most; None for all there are, whatever that costs.
        looks: in a period.
    """
    period = UNKNOWN if total_steps is None else min(max(total_steps // PERIODS, SHORTEST), LONGEST)
    period = max(period, looks)
    if not batch or rows is None:
        return period, rows
    each = ALLOWED * batch / looks
    period = max(period, math.ceil(min(rows, FEWEST) / each))
    return period, min(rows, int(each * period))
