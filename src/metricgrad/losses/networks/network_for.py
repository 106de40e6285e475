"""The network form that can express a metric, by the layout of its batches."""

from __future__ import annotations

import functools

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.embeddings import EmbeddingNetwork
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.peaks import PeakNetwork
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from metricgrad.losses.networks.spans import SpanNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.losses.networks.values import RegressionNetwork
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.layouts.embeddings import Embeddings
from metricgrad.metrics.layouts.layout import HeatMaps, Layout, Sentences, Spans
from metricgrad.metrics.metric import Metric


def network_for(
    metric: Metric, scores: Tensor, targets: Tensor, *, in_groups: bool = False, paper: bool = False, seed: int = 0
) -> NetworkForm:
    """A fresh network that can express the metric, or ReLoss's own for such batches.

    Args:
        metric: what it shall rank like.
        scores: stored ones.
        targets: likewise.
        in_groups: whether rows are of several queries; embeddings have their own network all the same.
        paper: ReLoss's published network, whatever the metric is.
        seed: of the first weights.

    Raises:
        MetricgradError: where the paper has none.
    """
    if in_groups and not paper and not metric.layout.of_embeddings:
        return ListNetwork(seed=seed)
    return _network_of(metric.layout, metric, scores, targets, paper, seed)


@functools.singledispatch
def _network_of(
    layout: Layout, metric: Metric, scores: Tensor, targets: Tensor, paper: bool, seed: int
) -> NetworkForm:  # fmt: skip
    if (targets.is_floating_point() or scores.shape == targets.shape) and not is_binary(targets):
        return RegressionNetwork(seed=seed)
    of_rows = paper or metric.name == "accuracy"
    return ProbabilityNetwork(monotone=not paper, seed=seed) if of_rows else SetNetwork(seed=seed)


@_network_of.register
def _(layout: Embeddings, metric: Metric, scores: Tensor, targets: Tensor, paper: bool, seed: int) -> NetworkForm:
    if paper:
        raise MetricgradError("the released code has no network of embeddings; leave paper out")
    return EmbeddingNetwork(seed=seed)


@_network_of.register
def _(layout: HeatMaps, metric: Metric, scores: Tensor, targets: Tensor, paper: bool, seed: int) -> NetworkForm:
    return HeatmapNetwork(size=scores.shape[-2:], seed=seed) if paper else PeakNetwork(seed=seed)


@_network_of.register
def _(layout: Sentences, metric: Metric, scores: Tensor, targets: Tensor, paper: bool, seed: int) -> NetworkForm:
    return TokenNetwork(positions=scores.shape[1], seed=seed)


@_network_of.register
def _(layout: Spans, metric: Metric, scores: Tensor, targets: Tensor, paper: bool, seed: int) -> NetworkForm:
    return SpanNetwork(seed=seed)
