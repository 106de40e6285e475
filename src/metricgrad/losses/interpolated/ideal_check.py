"""What is amiss with scores that are presumed to be ideal: a direction that the values contradict, or better scores."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from metricgrad.losses.interpolated.bounds import Bounds
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.anchors import corrupted
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.direction import beats, contradicted, refuse_wrong_direction
from metricgrad.value_range import ranges_of


class IdealCheck:
    """Says once what is amiss with the scores that are presumed to be ideal.

    Attributes:
        believed: whether some scores were seen to be worse than ideal ones, as they must be.
    """

    def __init__(self, metric: Metric) -> None:
        # a built-in metric has its direction by definition, and a batch may well have no worse scores than its ideal
        self._built_in = self.believed = metric.spec is not None and metric.batched
        self._told = False

    def is_missing(self, metric: Metric, batch: Batch, refactoring: Refactoring, bounds: Bounds) -> bool:
        """Whether a batch of one class shows no ideal: no decisions are worse than those that say its targets.

        So it is with a mean specificity: a class that is the only one has none, and others count once one is predicted.
        """
        now, ideal, reversed_ = bounds.read
        if self._built_in or beats(metric, ideal, reversed_) or not ranges_of(batch.targets)[0].constant:
            return False
        return contradicted(metric, ideal, [now, reversed_, *_poor(metric, batch, refactoring)])

    def of_decisions(self, metric: Metric, batch: Batch, refactoring: Refactoring, bounds: Bounds) -> None:
        """Refuse a direction that the values contradict; say where the scores are better than the presumed ideal."""
        now, ideal, reversed_ = bounds.read
        self.believed = self.believed or beats(metric, ideal, reversed_)
        if not self.believed:
            self.compare(metric, ideal, [reversed_, *_poor(metric, batch, refactoring)])
        self.tell_of_better(metric, now, ideal)

    def compare(self, metric: Metric, ideal: float, others: Sequence[float]) -> None:
        """Refuse a direction in which none of the other values is worse than the ideal one."""
        refuse_wrong_direction(metric, ideal, others)
        self.believed = self.believed or any(beats(metric, ideal, other) for other in others)

    def tell_of_better(self, metric: Metric, now: float, ideal: float) -> None:
        """Warn, once, of scores that are better than what is presumed to be ideal."""
        if beats(metric, now, ideal) and not self._told:
            self._told = True
            warnings.warn(
                f"metric {metric.name!r} is {now:.4g} for these scores and {ideal:.4g} where every decision is as "
                "the targets say, presumed to be ideal: the loss is below 0 where scores are better than that",
                stacklevel=6,
            )


def _poor(metric: Metric, batch: Batch, refactoring: Refactoring) -> list[float]:
    return batch.values(metric, corrupted(refactoring, batch.scores, batch.targets, groups=batch.groups)).tolist()
