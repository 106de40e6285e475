"""Metrics of segmentation: overlap of each class over all pixels of a batch.

Scores are logits ``(N, C, H, W)``, as networks give them, or ``(N, H, W, C)``, with ``(N, H, W)`` class targets, or
rows ``(N, C)`` with ``(N,)``. Yes-or-no masks have scores and targets of one shape, such as ``(N, H, W)``, and all
their pixels make one list. Pixels to ignore are left out with ``mask=``, or by their number:
``as_metric("dice", ignore_index=255)``.

The counts are those of the whole batch, as in torchmetrics' ``JaccardIndex``, not means over images. A class that is
neither a target nor a prediction is left out of the mean; without any class left the value is NaN.
"""

from __future__ import annotations

import functools

from torch import Tensor

from metricgrad.metrics.families.class_counts import Counts, class_counts, mean_of_seen, pooled
from metricgrad.metrics.families.class_sums import INTERSECTION_OVER_UNION, FScore, Score
from metricgrad.metrics.of_labels import OfClassCounts
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

_STRUCTURE = Structure("labels", "all")
_WEIGHTED = ("sample_weight",)


def _over_classes(score: Score, background: bool) -> OfClassCounts:
    """The mean of a score over the classes that occur."""
    options = {"score": score, "first": 0 if background else 1}
    return OfClassCounts(value=functools.partial(_value, **options), slope=functools.partial(_slope, **options))


def _value(counts: Counts, *, score: Score, first: int) -> Tensor:
    return mean_of_seen(score(counts)[..., first:], counts.seen[..., first:])


def _slope(counts: Counts, *, score: Score, first: int) -> tuple[Tensor, Tensor]:
    of_hit, of_predicted = score.slope(counts)
    seen = counts.seen
    share = wide(seen) / seen[first:].sum()
    share[:first] = 0
    return of_hit * share, of_predicted * share


def _jaccards(background: bool) -> OfClassCounts:
    return _over_classes(INTERSECTION_OVER_UNION, background)


def _dices(background: bool) -> OfClassCounts:
    return _over_classes(FScore(), background)


@register("mean_iou", reads="labels", structure=_STRUCTURE, context=_WEIGHTED, fast_path=_jaccards)
def mean_iou(
    labels: Tensor, targets: Tensor, *, background: bool = True, sample_weight: Tensor | None = None
) -> Tensor:
    """Intersection over union of each class, averaged; ``background=False`` leaves class 0 out."""
    return _jaccards(background).value(_counted(labels, targets, sample_weight))


@register("dice", reads="labels", structure=_STRUCTURE, context=_WEIGHTED, fast_path=_dices)
def dice(labels: Tensor, targets: Tensor, *, background: bool = False, sample_weight: Tensor | None = None) -> Tensor:
    """Twice the intersection over the sum of sizes, averaged over classes, without class 0 unless ``background``."""
    return _dices(background).value(_counted(labels, targets, sample_weight))


def _counted(labels: Tensor, targets: Tensor, weight: Tensor | None) -> Counts:
    return class_counts(*pooled(labels, targets, weight))
