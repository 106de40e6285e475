"""UniLoss's interpolation (Eq. 10): the metric at anchors, weighted by their inverse distances from the decisions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.interpolation import inverse_distance_weighting
from metricgrad.losses.interpolated.bounds import Estimate
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.anchors import score_anchors
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch

Weighting = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Anchors:
    """Anchor configurations.

    Attributes:
        each: how many of each type: good, bad and nearby.
        flips: decisions moved in a good or nearby one.
        power: of the inverse distance.
        weighting: of squared distances, values and power.
    """

    each: int
    flips: int
    power: float
    weighting: Weighting = inverse_distance_weighting

    def weighted(self, values: Tensor, squared: Tensor, current: Tensor) -> Estimate:
        """The mean over the anchors where the metric is defined.

        Args:
            values: ``(T,)`` of the metric.
            squared: ``(T,)`` squared distances.
            current: 0-d, the value of the scores.
        """
        known = values.tolist()
        defined = [place for place, value in enumerate(known) if math.isfinite(value)]
        if len(defined) < len(known):
            index = torch.tensor(defined, device=values.device)
            values, squared = values[index], squared[index]
        informs = len({known[place] for place in defined}) > 1
        return Estimate(self.weighting(squared, values.to(squared), self.power), current, informs)


def far_value(
    metric: Metric,
    batch: Batch,
    refactoring: Refactoring,
    current: Tensor,
    anchors: Anchors,
    softness: Tensor,
    generator: torch.Generator,
) -> Estimate:
    """Over anchors that are sets of scores, so that each is consistent and any metric can be called on it."""
    scores, targets, groups = batch.scores, batch.targets, batch.groups
    stack = score_anchors(
        refactoring, scores, targets, each=anchors.each, flips=anchors.flips, generator=generator, groups=groups
    )
    values = batch.values(metric, stack)
    squared = refactoring.squared_distances(scores, targets, stack, softness=softness, groups=groups)
    return anchors.weighted(values, squared, current)
