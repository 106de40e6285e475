"""Values of metrics as they are printed."""

from __future__ import annotations

import math


def six_digits(value: float, sign: str = "") -> str:
    """Four decimals, and six digits where that is fewer: what lies behind them is noise.

    Args:
        value: of a metric, in whatever unit.
        sign: ``"+"`` to have one before values above 0 too.

    Example:
        >>> six_digits(0.952131), six_digits(0.00213, "+"), six_digits(218423.14159), six_digits(-1955003.27)
        ('0.9521', '+0.0021', '218423', '-1955000')
    """
    if not math.isfinite(value) or abs(value) < 100:
        return f"{value:{sign}.4f}"
    decimals = 5 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):{sign}.{max(0, decimals)}f}"
