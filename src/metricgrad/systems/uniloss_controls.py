"""What UniLoss would be without the metric: the controls that a gain of it has to beat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.losses.baselines.margin import Margin
from metricgrad.losses.registry import CLASSIFICATION, RETRIEVAL, SOFTNESS_OF_COSINES, Entry, register
from metricgrad.metrics.families.group_means import in_groups
from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide, wide_dtype
from metricgrad.systems.uniloss import UniLoss


def never_called(metric: Metric, *, seed: int = 0, **options: Any) -> nn.Module:
    """The same loss where every decision is worth the same, so that the metric need not be called.

    Of labels that is UniLoss of accuracy, of ranked lists that of AUROC, and of embeddings the mean sigmoid margin.
    """
    if metric.layout.of_embeddings:
        return Margin(between="neighbours", **options)
    return UniLoss("accuracy" if metric.reads == "labels" else "auroc", seed=seed, **options)


def random_values(metric: Metric, *, seed: int = 0, **options: Any) -> nn.Module:
    """The same loss of a metric that reads what this one reads and answers at random."""
    answer = in_groups(_at_random) if metric.reads == "labels" else _at_random  # as metrics of labels take groups
    return UniLoss(metric.answering(answer), seed=seed, **options)


def _at_random(read: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, **_: Any) -> Tensor:
    """``(T,)`` values that follow from what is read of each row, so that a resumed training gets the same.

    A row of weight 2 counts as two rows, as in metrics that take weights.
    """
    columns = torch.arange(1, read[0, 0].numel() + 1, dtype=wide_dtype(read.device), device=read.device)
    of_target = (wide(targets).flatten(1) if targets.ndim > 1 else wide(targets)[:, None]).sum(1).abs() + 2
    of_rows = wide(read).reshape(*read.shape[:2], -1) @ columns + 1
    weights = of_target.sqrt() if sample_weight is None else of_target.sqrt() * wide(sample_weight)
    return ((of_rows * weights).sum(1) * 12.9898).sin().mul(43758.5453).frac().abs()


register(
    "uniloss_margin",
    Entry(
        never_called,
        CLASSIFICATION | RETRIEVAL,
        "uniloss that never calls the metric: every decision is worth the same",
        role="control",
        of_embeddings={"softness": SOFTNESS_OF_COSINES},
        takes_metric=True,
        passes_on_to=UniLoss,
    ),
)
register(
    "uniloss_random",
    Entry(
        random_values,
        CLASSIFICATION,
        "uniloss of a metric that answers at random",
        role="control",
        takes_metric=True,
        passes_on_to=UniLoss,
    ),
)
