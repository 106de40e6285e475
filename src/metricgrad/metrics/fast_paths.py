"""What else a built-in metric is a function of, so that a change of one decision is worth little to compute.

A metric that is a function of score sets alone is called on a whole set for each move. Each class here is one shorter
way, which a metric is registered with; :mod:`metricgrad.refactoring.moves` takes it where the moves have what it needs.
Functions take the metric's own parameters by keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

ClassNames = Literal["kept", "ordered", "alike"]
#: What becomes of a list that has no value, as one without positives: it is left out of the mean over lists, counts as
#: 0, or makes the mean NaN.
Missing = Literal["skipped", "zero", "nan"]


class FastPath:
    """Abstract: a shorter way to a metric's values."""

    names: ClassNames = "kept"

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """How many numbers one move of a batch takes; ``whole`` are those of a score set."""
        return whole

    def takes(self, context: Collection[str]) -> bool:
        """Whether this way is open to a batch that comes with such context."""
        return True


class OfHits(FastPath):
    """The weighted share of rows that are hits, whichever classes are before and behind their target."""

    def elements(self, scores: Tensor, targets: Tensor, whole: int) -> int:
        """One number."""
        return 1

    def takes(self, context: Collection[str]) -> bool:
        """Weights alone."""
        return set(context) <= {"sample_weight"}


@dataclass(frozen=True)
class OfSentences(FastPath):
    """A function of sums over sentences.

    Attributes:
        counts: ``(..., T)`` predicted and ``(..., T)`` target tokens to ``(..., K)`` numbers of each sentence.
        value: ``(..., K)`` sums of those numbers to ``(...)``.
    """

    counts: Callable[..., Tensor]
    value: Callable[..., Tensor]
