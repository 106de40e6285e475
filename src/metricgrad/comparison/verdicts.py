"""What a difference shows: better, worse, equivalent within the margin, or undecided, and how many seeds would tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from metricgrad.comparison.statistics import ALPHA, Estimate

ENOUGH_SEEDS = 6
MARGIN_SHARE = 0.005
"""The margin, where none is given, as a share of the metric's range."""

Verdict = Literal["better", "worse", "equivalent", "undecided", "too few seeds"]


def verdict(difference: Estimate, *, higher_is_better: bool, p: float, p_equivalent: float) -> Verdict:
    """What the difference from the baseline shows.

    A difference that is shown to be within the margin is equivalent also where it is shown not to be 0: smaller than
    the margin is what somebody said not to care for.

    Args:
        difference: the corrected estimate.
        higher_is_better: the metric's direction.
        p: of no difference, adjusted for the number of losses.
        p_equivalent: of a difference beyond the margin, adjusted in the same way.
    """
    if difference.n < ENOUGH_SEEDS:
        return "too few seeds"
    if p_equivalent < ALPHA:
        return "equivalent"
    if p < ALPHA:
        return "better" if (difference.mean > 0) == higher_is_better else "worse"
    return "undecided"


def default_margin(values: Sequence[float], *, higher_is_better: bool) -> float:
    """0.005 of the metric's range.

    The range is 1 where higher is better and no value is beyond -1 ... 1. Else, for errors and for metrics in units of
    their own, it is the mean distance of ``values`` from 0, so that the margin is half a percent of them.

    Args:
        values: test values of the standard losses; finite.
        higher_is_better: the metric's direction.
    """
    sizes = [abs(value) for value in values]
    if higher_is_better and max(sizes, default=0.0) <= 1:
        return MARGIN_SHARE
    return MARGIN_SHARE * (math.fsum(sizes) / len(sizes)) if any(sizes) else MARGIN_SHARE


def counted(count: int, noun: str) -> str:
    """So many of it, in words.

    Example:
        >>> counted(1, "seed"), counted(8, "seed")
        ('1 seed', '8 seeds')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def words(row: Mapping[str, Any]) -> str:
    """The verdict of a row of the summary as people read it."""
    if row["verdict"] != "undecided":
        return row["verdict"]
    more = row["more_seeds"]
    return "undecided at any number of seeds" if more is None else f"undecided, about {_rounded(more)} more seeds"


def note_on_floor(summary: Sequence[Mapping[str, Any]], margin: float, ratio: float) -> str | None:
    """In words, why no number of seeds would tell, where that is so of some row."""
    hidden = [row["loss"] for row in summary if row["verdict"] == "undecided" and row["more_seeds"] is None]
    if not hidden:
        return None
    why = (
        f"every seed draws from the same items, {ratio:.2g} test items for each training item, so the interval never "
        "gets narrower than they allow" if ratio else "the scores vary too much from seed to seed"
    )  # fmt: skip
    return (
        f"no number of seeds would tell {' or '.join(hidden)} from the baseline: {why}; more data would, or a margin "
        f"above {margin:.2g}"
    )


def _rounded(count: int) -> str:
    """Two digits that mean something, from 100 up."""
    digits = max(len(str(count)) - 2, 0)
    return f"{round(count, -digits):,}"
