"""How a loss's value was used: whether the factor its gradient was multiplied by is a constant or follows from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metricgrad.aligners.lookahead.plain_numbers import Constants
from metricgrad.aligners.lookahead.skipped_step import SkippedStepError

_POWERS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)


def power_of(factor: Tensor, value: Tensor, constants: Constants) -> float:
    r"""m, where the factor is :math:`c v^m` of the value v with a constant c: 0 for a constant factor.

    A backward pass tells the number alone. ``v ** 2`` leaves 2 v (m is 1), ``v / v.detach()`` leaves 1 / v, and a plain
    number says that it is a constant.

    Args:
        factor: 0-d.
        value: 0-d.
        constants: what was seen in earlier steps.

    Raises:
        SkippedStepError: where it cannot be told.
    """
    f, v = float(factor), float(value)
    if abs(f) == 1.0 or f == 0.0 or not math.isfinite(f) or not math.isfinite(v):
        return 0.0
    powers = [m for m in _POWERS if not m or v > 0 or (v < 0 and m == int(m))]
    eps = max(torch.finfo(factor.dtype).eps, 1e-15)
    found = constants.told({m: f / v**m for m in powers}, v, eps, lambda a, b: a == b)
    if found is None:
        raise SkippedStepError(
            "used",
            f"the loss's gradient was multiplied by {f:.6g}, and whether that number is a constant or follows from the "
            "loss's own value cannot be told from it; multiply the loss by plain numbers, or by the same in each step",
        )
    return found
