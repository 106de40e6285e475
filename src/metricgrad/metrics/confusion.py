"""Metrics of predicted labels: functions of the confusion counts."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metric import Structure
from metricgrad.metrics.registry import register

_LABELS = Structure("labels", "all")


def confusion_counts(labels: Tensor, targets: Tensor) -> Tensor:
    """Count (target, predicted) pairs.

    Args:
        labels: ``(T, N)`` integer predictions.
        targets: ``(N,)`` integer targets.

    Returns:
        ``(T, C, C)`` float64 counts, rows by target; C is one more than the largest label seen.
    """
    targets = targets.long()
    classes = int(torch.cat([labels.reshape(-1), targets.reshape(-1)]).max()) + 1 if targets.numel() else 1
    index = targets * classes + labels
    counts = torch.zeros(labels.shape[0], classes * classes, dtype=torch.float64, device=labels.device)
    counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float64))
    return counts.view(-1, classes, classes)


@register("accuracy", reads="labels", structure=_LABELS)
def accuracy(labels: Tensor, targets: Tensor) -> Tensor:
    """Share of right labels; of rows with all labels right for multilabel targets."""
    right = labels == targets
    return right.flatten(2).all(-1).double().mean(-1) if right.ndim > 2 else right.double().mean(-1)


@register("macro_f1", reads="labels", structure=_LABELS)
def macro_f1(labels: Tensor, targets: Tensor) -> Tensor:
    """F1 of each class that is a target or a prediction, averaged."""
    counts = confusion_counts(labels, targets)
    hit = counts.diagonal(dim1=1, dim2=2)
    total = counts.sum(1) + counts.sum(2)
    return (2 * hit / total.clamp(min=1)).sum(-1) / (total > 0).sum(-1)
