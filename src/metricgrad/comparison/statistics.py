"""Intervals and tests for scores of resampled splits.

Seeds that redraw the split share most of their items, so their scores are not independent and a plain t-test finds
differences that are not there. Nadeau and Bengio's correction replaces the variance factor 1/n by
1/n + n_test/n_train.

So the standard error of redrawn splits does not go to zero with the number of seeds, but to ``deviation *
sqrt(n_test / n_train)``: seeds bring new splits, never new items. A difference that this floor hides is hidden from any
number of seeds, which :func:`seeds_to_tell` says.

References:
    Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52 (2003), section 3 and Eq. 6.
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", Journal of Pharmacokinetics
    and Biopharmaceutics 15 (1987).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1_000_000
"""More than this is no number that anybody would train."""


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval, and the p-value of its being 0 (NaN where there are fewer than two values).

    ``n`` is the number of values, ``deviation`` their standard deviation and ``error`` the corrected standard error of
    the mean.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int = 0
    deviation: float = math.nan
    error: float = math.nan


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
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    error = deviation * math.sqrt(1 / n + ratio)
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0, n, 0.0, 0.0)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, n - 1))
    return Estimate(mean, mean - half, mean + half, p, n, deviation, error)


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


def equivalence(difference: Estimate, margin: float) -> float:
    """The p-value of two one-sided tests: small where the difference is shown to be within ``margin`` of 0.

    Below 0.05, the corrected 90 % interval lies between ``-margin`` and ``margin``. NaN for fewer than two values.

    Example:
        >>> equivalence(corrected([0.001, -0.002, 0.001, 0.0]), margin=0.005) < 0.05
        True
    """
    from scipy.stats import t

    room = margin - abs(difference.mean)
    if math.isnan(difference.error):
        return math.nan
    if difference.error == 0:
        return 0.0 if room > 0 else 1.0
    return float(t.sf(room / difference.error, difference.n - 1))


def seeds_to_tell(difference: Estimate, margin: float, ratio: float = 0.0, *, tests: int = 1) -> int | None:
    """How many more seeds would tell, were the mean and the deviation what they are now.

    To tell is to show the difference, or to show that it is within the margin; four times in five.

    Args:
        difference: of two values or more.
        margin: above 0, in the metric's units.
        ratio: n_test / n_train, as in :func:`corrected`.
        tests: how many differences are tested, which share the level.

    Returns:
        A number above 0; None where the standard error's floor of ``deviation * sqrt(ratio)`` hides the difference
        from any number of seeds.

    Example:
        >>> difference = corrected([0.01, -0.02, 0.03, 0.0])
        >>> seeds_to_tell(difference, margin=0.005)
        135
        >>> seeds_to_tell(difference, margin=0.005, ratio=1 / 3) is None
        True
    """
    from scipy.stats import norm, t

    level, size = ALPHA / tests, abs(difference.mean)

    def tells(error: float, freedom: float) -> bool:
        quantile = norm.ppf if math.isinf(freedom) else partial(t.ppf, df=freedom)
        power = quantile(POWER)
        shown = size >= (quantile(1 - level / 2) + power) * error
        return bool(shown or margin - size >= (quantile(1 - level) + power) * error)

    def enough(n: int) -> bool:
        return tells(difference.deviation * math.sqrt(1 / n + ratio), n - 1)

    if not tells(difference.deviation * math.sqrt(ratio), math.inf):
        return None
    few = many = difference.n + 1
    while not enough(many):
        if many > MOST_SEEDS:
            return None
        few, many = many + 1, 2 * many
    return bisect_left(range(many + 1), True, few, many, key=enough) - difference.n
