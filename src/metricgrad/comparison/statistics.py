"""Intervals and tests for scores of resampled splits.

Seeds that redraw the split share most of their items, so their scores are not independent and a plain t-test finds
differences that are not there. Nadeau and Bengio's correction replaces the variance factor 1/n by
1/n + n_test/n_train.

References:
    Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52 (2003), section 3 and Eq. 6.
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval, and the p-value of its being 0 (NaN where there are fewer than two values)."""

    mean: float
    low: float
    high: float
    p: float


def corrected(values: Sequence[float], ratio: float = 0.0) -> Estimate:
    """Mean, interval and two-sided test of ``values``, with the variance factor ``1/n + ratio``.

    Args:
        values: one for each seed: scores, or paired differences of scores.
        ratio: n_test / n_train where each seed redraws the split; 0 where values are independent, which gives the
            plain t-test.

    Returns:
        An :class:`Estimate` with n - 1 degrees of freedom.

    Example:
        >>> round(corrected([1.0, 2.0, 3.0]).high, 3)
        4.484
        >>> round(corrected([1.0, 2.0, 3.0], ratio=0.25).high, 3)
        5.286
    """
    from scipy.stats import t

    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, math.nan, math.nan, math.nan)
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    error = math.sqrt(variance * (1 / n + ratio))
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, n - 1)))


def paired(a: Sequence[float], b: Sequence[float], ratio: float = 0.0) -> Estimate:
    """``a - b``, seed by seed; both lists follow the same seeds."""
    return corrected([x - y for x, y in zip(a, b, strict=True)], ratio)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values; NaN stays NaN and counts for nothing.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    adjusted, running = [math.nan] * len(ps), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * ps[i]))
        adjusted[i] = running
    return adjusted
