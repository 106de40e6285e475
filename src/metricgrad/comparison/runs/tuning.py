"""How the parameters of a loss are found: which trials, and which of them is best.

Both ways are functions of the seed and of the trials already recorded, and give every loss as many trials.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from metricgrad.abstract import Abstract
from metricgrad.comparison.records import Record
from metricgrad.comparison.runs.proposals import defaults, draw, propose
from metricgrad.losses.registry import Range

Space = Mapping[str, Range]
ETA = 3
"""Successive halving keeps one draw of three and trains it three times as long."""
SHARES = (1 / ETA**2, 1 / ETA, 1.0)


@dataclass(frozen=True)
class Trial:
    """One trial: its number, its parameters, and its share of a whole training."""

    number: int
    params: dict[str, float]
    share: float = 1.0


@dataclass(frozen=True)
class Tuning(Abstract):
    """Abstract: a rule for trials.

    Attributes:
        maximise: whether higher values are better.
    """

    maximise: bool

    @property
    @abc.abstractmethod
    def total(self) -> int:
        """Trials of each loss."""

    @abc.abstractmethod
    def ready(self, space: Space, done: Sequence[Record]) -> Iterator[Trial]:
        """The trials that are missing and follow from those that are done.

        Args:
            space: what is tuned.
            done: :meth:`counted` records, by number.
        """

    def counted(self, trials: Sequence[Record]) -> list[Record]:
        """Those of the recorded trials of a loss that this rule asks for."""
        return [record for record in trials if record["trial"] < self.total]

    def best(self, done: Sequence[Record]) -> Record | None:
        """The best whole training; None where all failed."""
        whole = [record for record in done if record.get("share", 1.0) == 1.0]
        return next(iter(self._ranked(whole)), None)

    def _ranked(self, done: Sequence[Record]) -> list[Record]:
        """Those that did not fail, the best first, the earlier of equals."""
        sign = -1 if self.maximise else 1
        return sorted((r for r in done if r["valid"] is not None), key=lambda r: (sign * r["valid"], r["trial"]))


@dataclass(frozen=True)
class Search(Tuning):
    """Whole trainings one after the other, each proposed by those before it.

    Attributes:
        trials: how many.
    """

    trials: int

    @property
    def total(self) -> int:
        """``trials``."""
        return self.trials

    def ready(self, space: Space, done: Sequence[Record]) -> Iterator[Trial]:
        """The first that is missing."""
        there = {record["trial"] for record in done}
        number = next((number for number in range(self.trials) if number not in there), None)
        if number is not None:
            before = [record for record in done if record["trial"] < number]
            yield Trial(number, propose(space, before, seed=0, maximise=self.maximise))


@dataclass(frozen=True)
class Halving(Tuning):
    """The defaults at full length, beside successive halving of random draws.

    All draws get a ninth of the epochs, the best third of them a third, the best third of those all.

    Attributes:
        draws: how many, 0 for the defaults alone.

    References:
        K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
        AISTATS 2016, algorithm 1.
    """

    draws: int

    @property
    def total(self) -> int:
        """The defaults and every stage."""
        return 1 + sum(stages(self.draws))

    def ready(self, space: Space, done: Sequence[Record]) -> Iterator[Trial]:
        """The defaults, and what is missing of the first stage that is not done."""
        by_number = {record["trial"]: record for record in done}
        if 0 not in by_number:
            yield Trial(0, defaults(space))
        first, before = 1, []
        for count, share in zip(stages(self.draws), SHARES, strict=True):
            numbers = range(first, first + count)
            for place, number in enumerate(numbers):
                if number not in by_number:
                    params = draw(space, place, seed=0) if first == 1 else before[place % len(before)]["params"]
                    yield Trial(number, params, share)
            if any(number not in by_number for number in numbers):
                return
            before = self._ranked([by_number[number] for number in numbers]) or [by_number[n] for n in numbers]
            first += count


def stages(draws: int) -> tuple[int, ...]:
    """How many draws are trained to each of :data:`SHARES`.

    Example:
        >>> stages(9), stages(4), stages(0)
        ((9, 3, 1), (4, 2, 1), (0, 0, 0))
    """
    return tuple(math.ceil(draws / ETA**stage) for stage in range(len(SHARES)))
