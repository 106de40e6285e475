"""A budget in time becomes a number of runs, once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from metricgrad.comparison.runs.tuning import SHARES, stages
from metricgrad.comparison.study_display import in_words
from metricgrad.comparison.verdicts import ENOUGH_SEEDS, counted
from metricgrad.errors import MetricgradError

_UNITS = {
    name: seconds
    for names, seconds in (("s sec second", 1), ("m min minute", 60), ("h hour", 3600), ("d day", 86400))
    for name in names.split()
}
MOST_DRAWS = 200


@dataclass(frozen=True)
class Limit:
    """What a study may take: seconds, most trials and most final runs of each loss."""

    seconds: float
    trials: int
    seeds: int

    def said(self, bought: Afforded) -> str:
        """In words, what it came to."""
        return (
            f"a budget of {self.seconds:g} s came to {counted(bought['draws'], 'draw')} by successive halving, beside "
            f"the defaults, and {counted(bought['seeds'], 'final run')} of each loss"
        )

    def exceeded(self, spent: float, costs: Mapping[str, Cost], *, extra: float = 0.0, jobs: int = 1) -> str | None:
        """In words, that it is too short for a verdict, or for anything; None as long as it is not known to be.

        Args:
            spent: see :func:`afforded`.
            costs: of the losses that were timed so far.
            extra: see :func:`afforded`.
            jobs: workers who share it.

        Example:
            >>> Limit(60, trials=20, seeds=10).exceeded(10, {"cross_entropy": Cost(20, short=10)})
            'the budget of 60 s is too short for a verdict: 6 final runs of each loss take at least 2 min in all; give \
more time, fewer losses or more jobs'
        """
        seed = sum(cost.whole for cost in costs.values()) + extra
        one, enough = ((spent + count * seed) / jobs for count in (1, ENOUGH_SEEDS))
        if one > self.seconds:
            over = f"and is exceeded: one final run of each loss takes at least {in_words(one)} in all"
            if in_words(enough) != in_words(one):
                over += f", {ENOUGH_SEEDS} of each, for a verdict, {in_words(enough)}"
        elif enough > self.seconds and self.seeds >= ENOUGH_SEEDS:
            over = f"for a verdict: {ENOUGH_SEEDS} final runs of each loss take at least {in_words(enough)} in all"
        else:
            return None
        return f"the budget of {in_words(self.seconds)} is too short {over}; give more time, fewer losses or more jobs"


class Cost(NamedTuple):
    """Seconds of one run of a loss: of a whole one, and of one of the first stage of successive halving."""

    whole: float
    short: float

    def of_draws(self, draws: int) -> float:
        """Of so many draws through all stages, a run's seconds being linear in its share of the epochs."""
        rate = (self.whole - self.short) / (1 - SHARES[0])
        each = zip(stages(draws), SHARES, strict=True)
        return sum(count * (self.short + rate * (share - SHARES[0])) for count, share in each)


class Afforded(TypedDict):
    """How many draws of each loss, see :class:`metricgrad.comparison.runs.tuning.Halving`, and how many final runs."""

    draws: int
    seeds: int


def seconds_of(budget: str | float) -> float:
    """Seconds of ``"10m"``, ``"10 min"``, ``"1h30m"``, ``"90s"`` or a number of them.

    Raises:
        MetricgradError: for anything else, and for nothing.

    Example:
        >>> seconds_of("10m"), seconds_of("1h30m"), seconds_of(45)
        (600.0, 5400.0, 45.0)
    """
    text = str(budget).strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    whole = "".join(number + unit for number, unit in parts) == re.sub(r"\s", "", text)
    units = [unit if unit in _UNITS else unit.removesuffix("s") for _, unit in parts]
    if whole and len(parts) == 1 and not units[0]:
        found = float(parts[0][0])
    elif whole and parts and all(unit in _UNITS for unit in units):
        found = sum(float(number) * _UNITS[unit] for (number, _), unit in zip(parts, units, strict=True))
    else:
        found = 0.0
    if found <= 0:
        raise MetricgradError(f"budget is {budget!r}; write it as 10m, 90s or 1h30m")
    return float(found)


def afforded(limit: Limit, spent: float, costs: Mapping[str, Cost], *, extra: float = 0.0) -> Afforded:
    """What a budget buys once every loss was trained once, at its defaults.

    Half of what is left goes into final runs, more where six seeds ask for it, because fewer give no verdict; the rest
    into tuning, no more than ``limit.trials`` whole trainings cost. Nothing is trained shorter than it should be: there
    is one final run at least, however small the budget, and what does not fit is left out.

    Args:
        limit: the budget.
        spent: seconds of it that are over.
        costs: of each loss, controls too.
        extra: seconds that a seed costs beside, for averages.

    Example:
        >>> costs = {"cross_entropy": Cost(2, short=0.3), "uniloss": Cost(3, short=0.5)}
        >>> afforded(Limit(600, trials=20, seeds=10), 20, costs, extra=9)
        {'draws': 45, 'seeds': 10}
    """
    left, every = max(0.0, limit.seconds - spent), sum(cost.whole for cost in costs.values())
    seed = every + extra
    enough = min(ENOUGH_SEEDS, limit.seeds, int(left / seed))
    seeds = max(1, enough, min(limit.seeds, int(left / 2 / seed)))
    room = min(left - seeds * seed, (limit.trials - 1) * every)
    within = (n for n in range(MOST_DRAWS) if sum(cost.of_draws(n) for cost in costs.values()) <= room)
    return {"draws": max(within, default=0), "seeds": seeds}
