"""Which rung to stand on: a rule for choosing among losses that never goes by the best-looking mean.

Going up, a rung replaces the choice so far only where its gain on validation passes a one-sided, paired and corrected
test at 5 %, that is where the corrected 90 % interval is above 0; else the simpler one stays. The best mean of several
losses that are equal is not the first one's nearly always, and one corrected standard error is passed by some rung of
four in one study of five: ``benchmarks/aa_studies.py`` has what each rule takes of losses that are the same under other
names, and of losses that are better by so much.

A decision on the loss chosen so far is taken also where every seed's own cross-validation took one and the mean gain is
above 0, however few the seeds: each has passed one standard error already (:func:`metricgrad.fit_decision`), and one
seed that gains far more than the rest would otherwise hide in their spread what all of them say.

The test part has no say: it judges what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from metricgrad.comparison.statistics import ALPHA, Estimate, paired
from metricgrad.comparison.verdicts import ENOUGH_SEEDS

Values = Mapping[int, float | None]
"""Seed -> value; None for a run that failed."""


@dataclass(frozen=True)
class Step:
    """What came of one rung.

    Attributes:
        over: the index of the rung that was the choice before it.
        added: value of this rung less that of the choice, more is better.
        whole: whether six seeds or more say so, none of which failed.
        agreed: whether it is a decision that the cross-validation of every seed took, none of which failed.
    """

    over: int
    added: Estimate
    whole: bool
    agreed: bool = False

    @property
    def taken(self) -> bool:
        """Whether it became the choice."""
        return (self.whole and self.p < ALPHA) or (self.agreed and self.added.mean > 0)

    @property
    def p(self) -> float:
        """Of no gain, against one: one-sided."""
        return self.added.p / 2 if self.added.mean > 0 else 1 - self.added.p / 2

    @property
    def low(self) -> float:
        """The lower end of the corrected 90 % interval, above 0 where ``p`` is below 5 %; NaN for one seed."""
        return self.added.mean - self._half

    @property
    def high(self) -> float:
        """The upper end."""
        return self.added.mean + self._half

    @property
    def _half(self) -> float:
        from scipy.stats import t

        return float(t.ppf(1 - ALPHA, self.added.n - 1)) * self.added.error if self.added.n > 1 else math.nan


def climb(
    rungs: Sequence[Values], *, higher_is_better: bool, ratio: float = 0.0, agreed: Collection[int] = ()
) -> list[Step]:
    """One step for each rung after the first, in order.

    Args:
        rungs: validation values of each rung, from the simplest on.
        higher_is_better: the metric's direction.
        ratio: n_valid / n_train where seeds redraw the split, else 0.
        agreed: indices of rungs that are a decision on the rung before, which every seed's cross-validation took.

    Returns:
        The steps; the last one taken is the choice, the first rung where none is. A rung with a run that failed is not
        taken, nor, but for a decision that is agreed on, one with fewer than six seeds.

    Example:
        >>> base, same, more = ({i: level + 0.001 * (i % 2) for i in range(8)} for level in (0.7, 0.7, 0.8))
        >>> [step.taken for step in climb([base, same, more], higher_is_better=True)]
        [False, True]
    """
    steps, choice = [], 0
    for rung in range(1, len(rungs)):
        added = difference(rungs[rung], rungs[choice], higher_is_better=higher_is_better, ratio=ratio)
        complete = None not in rungs[rung].values()
        whole, decided = complete and added.n >= ENOUGH_SEEDS, complete and rung in agreed and choice == rung - 1
        steps.append(Step(choice, added, whole, decided))
        choice = rung if steps[-1].taken else choice
    return steps


def difference(a: Values, b: Values, *, higher_is_better: bool, ratio: float) -> Estimate:
    """``a - b`` over the seeds in which neither failed, turned so that more is better."""
    pairs = [(x, y) for seed, x in a.items() if x is not None and (y := b.get(seed)) is not None]
    better, worse = zip(*pairs, strict=True) if pairs else ((), ())
    return paired(better, worse, ratio) if higher_is_better else paired(worse, better, ratio)
