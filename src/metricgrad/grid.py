"""The grid: every loss form and every aligner by the name that a file knows it by, and how a file makes them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metricgrad.aligners.base import Aligner
from metricgrad.aligners.look_ahead import LookAhead
from metricgrad.aligners.policy import Policy
from metricgrad.aligners.random_walk import RandomWalk
from metricgrad.aligners.rank_correlation import RankCorrelation
from metricgrad.aligners.static import Static
from metricgrad.aligners.value_regression import ValueRegression
from metricgrad.errors import MetricgradError
from metricgrad.losses.classification_family import ClassificationFamily
from metricgrad.losses.correlation_matrix import CorrelationMatrix
from metricgrad.losses.distance_mixture import DistanceMixture
from metricgrad.losses.embedding_network import EmbeddingNetwork
from metricgrad.losses.focal_weighting import FocalWeighting
from metricgrad.losses.form import Form
from metricgrad.losses.heatmap_network import HeatmapNetwork
from metricgrad.losses.interpolated import Interpolated
from metricgrad.losses.list_network import ListNetwork
from metricgrad.losses.mix import Mix
from metricgrad.losses.neural import NeuralLoss
from metricgrad.losses.peak_network import PeakNetwork
from metricgrad.losses.probability_network import ProbabilityNetwork
from metricgrad.losses.ranking_family import RankingFamily
from metricgrad.losses.regression_network import RegressionNetwork
from metricgrad.losses.residual import LearnedRate, Residual
from metricgrad.losses.scaled import Scaled
from metricgrad.losses.set_network import SetNetwork
from metricgrad.losses.span_network import SpanNetwork
from metricgrad.losses.token_network import TokenNetwork
from metricgrad.metric import as_metric

FORMS: dict[str, type[Form]] = {
    cls.kind: cls
    for cls in (
        Interpolated,
        LearnedRate,
        NeuralLoss,
        ProbabilityNetwork,
        Residual,
        SetNetwork,
        HeatmapNetwork,
        PeakNetwork,
        TokenNetwork,
        SpanNetwork,
        RegressionNetwork,
        EmbeddingNetwork,
        ListNetwork,
        DistanceMixture,
        FocalWeighting,
        ClassificationFamily,
        CorrelationMatrix,
        RankingFamily,
        Mix,
        Scaled,
    )
}
ALIGNERS: dict[str, type[Aligner]] = {
    cls.kind: cls
    for cls in (
        Static,
        RankCorrelation,
        ValueRegression,
        Policy,
        RandomWalk,
        LookAhead,
    )
}


def part(
    known: Mapping[str, type[Any]], described: list[Any], path: str | Path, metric: Any, loss: Callable[..., Any]
) -> Any:
    """A form or an aligner from its kind and its config, in which forms and losses may be described in turn.

    ``loss(header, path, metric)`` builds a loss that serves as an objective.
    """
    kind, config = described
    for name, value in config.items():
        if name == "metric":
            if value is None and metric is None:
                raise MetricgradError(
                    f"{path} was saved with a foreign metric; pass it again: load_loss(path, metric=...)"
                )
            config[name] = as_metric(value or metric)
        elif name in ("form", "base") and isinstance(value, list):
            config[name] = part(FORMS, value, path, metric, loss)
        elif name == "forms":
            config[name] = [part(FORMS, inner, path, metric, loss) for inner in value]
        elif name == "objective" and isinstance(value, dict):
            config[name] = loss(value, path, metric)
    return known[kind](**config)


def kinds(described: list[Any]) -> Iterator[str]:
    """The kinds of a form and of the forms in it."""
    kind, config = described
    yield kind
    inner = [value for name, value in config.items() if name in ("form", "base") and isinstance(value, list)]
    for each in [*inner, *config.get("forms", [])]:
        yield from kinds(each)
