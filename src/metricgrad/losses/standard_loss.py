"""The loss people use today for what a metric reads, by the layout of its batches."""

from __future__ import annotations

import functools

from metricgrad.losses.baselines.gaussian_mse import GaussianMSE
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.baselines.token_cross_entropy import TokenCrossEntropy
from metricgrad.losses.calling import ScoreLoss
from metricgrad.metrics.layouts.layout import HeatMaps, Layout, Sentences


@functools.singledispatch
def standard_loss(layout: Layout) -> ScoreLoss:
    """Cross-entropy for classes, labels and spans, squared error for values, and what is written below for the rest."""
    return TaskLoss()


@standard_loss.register
def _(layout: HeatMaps) -> ScoreLoss:
    return GaussianMSE()


@standard_loss.register
def _(layout: Sentences) -> ScoreLoss:
    return TokenCrossEntropy()
