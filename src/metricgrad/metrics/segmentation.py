"""Metrics of segmentations: overlaps of the pixels of each class, counted over the whole batch.

Pixels are rows: ``(B, H * W, C)`` logits with ``(B, H * W)`` classes, or same-shape logits of one mask. A void label is
left out with ``mask=(targets != void)``.
"""

from __future__ import annotations

from torch import Tensor

from metricgrad.metric import Structure
from metricgrad.metrics.confusion import fbeta, jaccard
from metricgrad.metrics.registry import register

_BY_CLASS = Structure("labels", "column")


@register("mean_iou", reads="labels", structure=_BY_CLASS, context=("sample_weight",))
def mean_iou(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Intersection over union of each class that is a target or a prediction, averaged.

    For one mask that is its foreground and its background (``jaccard`` takes the foreground alone); for ``(N, C)``
    same-shape scores it is the foreground of each column.
    """
    return jaccard(labels, targets, average="macro", sample_weight=sample_weight)


@register("dice", reads="labels", structure=_BY_CLASS, context=("sample_weight",))
def dice(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Dice overlap 2 |A and B| / (|A| + |B|) of each class that is a target or a prediction, averaged.

    For one mask that is its foreground and its background (``f1`` takes the foreground alone); for ``(N, C)``
    same-shape scores it is the foreground of each column.
    """
    return fbeta(labels, targets, average="macro", sample_weight=sample_weight)
