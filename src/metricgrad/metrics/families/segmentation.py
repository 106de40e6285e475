"""Metrics of segmentation: overlap of each class over all pixels of a batch.

Scores are logits ``(N, C, H, W)``, as networks give them, or ``(N, H, W, C)``, with ``(N, H, W)`` class targets, or
rows ``(N, C)`` with ``(N,)``. Yes-or-no masks have scores and targets of one shape, such as ``(N, H, W)``, and all
their pixels make one list. Pixels to ignore are left out with ``mask=``, or by their number:
``as_metric("dice", ignore_index=255)``.

The counts are those of the whole batch, as in torchmetrics' ``JaccardIndex``, not means over images. A class that is
neither a target nor a prediction is left out of the mean; without any class left the value is NaN.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from metricgrad.metrics.families.class_counts import Counts, class_counts, mean_of_seen, pooled, ratio
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.of_labels import OfClassCounts
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure

_STRUCTURE = Structure("labels", "all")
_WEIGHTED = ("sample_weight",)


def _jaccards(background: bool) -> FastPath:
    return OfClassCounts(of_counts=partial(_mean_iou, background))


def _dices(background: bool) -> FastPath:
    return OfClassCounts(of_counts=partial(_dice, background))


@register("mean_iou", reads="labels", structure=_STRUCTURE, context=_WEIGHTED, fast_path=_jaccards)
def mean_iou(
    labels: Tensor, targets: Tensor, *, background: bool = True, sample_weight: Tensor | None = None
) -> Tensor:
    """Intersection over union of each class, averaged; ``background=False`` leaves class 0 out."""
    return _mean_iou(background, _counted(labels, targets, sample_weight))


@register("dice", reads="labels", structure=_STRUCTURE, context=_WEIGHTED, fast_path=_dices)
def dice(labels: Tensor, targets: Tensor, *, background: bool = False, sample_weight: Tensor | None = None) -> Tensor:
    """Twice the intersection over the sum of sizes, averaged over classes, without class 0 unless ``background``."""
    return _dice(background, _counted(labels, targets, sample_weight))


def _mean_iou(background: bool, counts: Counts) -> Tensor:
    return _over_classes(ratio(counts.hit, counts.either - counts.hit), counts, background)


def _dice(background: bool, counts: Counts) -> Tensor:
    return _over_classes(ratio(2 * counts.hit, counts.either), counts, background)


def _counted(labels: Tensor, targets: Tensor, weight: Tensor | None) -> Counts:
    return class_counts(*pooled(labels, targets, weight))


def _over_classes(values: Tensor, counts: Counts, background: bool) -> Tensor:
    first = 0 if background else 1
    return mean_of_seen(values[..., first:], counts.seen[..., first:])
