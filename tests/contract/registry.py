"""One registry of every loss form and aligner; the contract tests run over it, and fail where one is missing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import metricgrad as mg
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.aligners.fitting.value_regression import ValueRegression
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.aligners.static import Static
from metricgrad.loss import Loss
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.composite.mix import Mix
from metricgrad.losses.composite.residual import LearnedRate, Residual
from metricgrad.losses.composite.scaled import Scaled
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.losses.families.distance_mixture import DistanceMixture
from metricgrad.losses.families.focal_weighting import FocalWeighting
from metricgrad.losses.families.ranking import RankingFamily
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.linearized import Linearized
from metricgrad.losses.interpolated.paper import PaperInterpolated
from metricgrad.losses.networks.embeddings import EmbeddingNetwork
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.losses.networks.peaks import PeakNetwork
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from metricgrad.losses.networks.spans import SpanNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.losses.networks.values import RegressionNetwork

Data = Callable[[int, torch.dtype], tuple[Tensor, Tensor]]


def _generator(n: int) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def binary(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, generator=g).to(dtype), (torch.rand(n, generator=g) < 0.4).long()


def multiclass(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 5, generator=g).to(dtype), torch.randint(5, (n,), generator=g)


def multilabel(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 4, generator=g).to(dtype), (torch.rand(n, 4, generator=g) < 0.4).long()


def regression(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, generator=g).to(dtype), torch.randn(n, generator=g)


def gains(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, generator=g).to(dtype), torch.randint(4, (n,), generator=g)


def embeddings(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 8, generator=g).to(dtype), 20 * torch.randint(4, (n,), generator=g)


def spans(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 2, 6, generator=g).to(dtype), torch.randint(6, (n, 2), generator=g).sort(1).values


def sentences(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 4, 7, generator=g).to(dtype), torch.randint(7, (n, 4), generator=g)


def heat_maps(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 5, 6, generator=g).to(dtype), torch.randint(5, (n, 2), generator=g)


#: name -> (factory of a fresh loss, data)
LOSSES: dict[str, tuple[Callable[[], Loss], Data]] = {
    "uniloss alone f1": (lambda: mg.UniLoss("f1", anchored=False), binary),
    "uniloss alone macro_f1": (lambda: mg.UniLoss("macro_f1", anchored=False), multiclass),
    "uniloss alone average_precision": (lambda: mg.UniLoss("average_precision", anchored=False), binary),
    "linearized f1": (lambda: Loss(Linearized(mg.as_metric("f1"))), binary),
    "anchored network": (lambda: mg.AdaLFL(num_outputs=5), multiclass),
    "anchored network looked ahead": (
        lambda: Loss(Anchored("mse", NeuralLoss(kind="regression"), weight=0.5), LookAhead()),
        regression,
    ),
    "uniloss f1": (lambda: mg.UniLoss("f1"), binary),
    "uniloss macro_f1": (lambda: mg.UniLoss("macro_f1"), multiclass),
    "uniloss macro_f1 multilabel": (lambda: mg.UniLoss("macro_f1"), multilabel),
    "uniloss quadratic_kappa": (lambda: mg.UniLoss("quadratic_kappa"), multiclass),
    "uniloss top-2": (lambda: mg.UniLoss("top_k_accuracy:k=2"), multiclass),
    "uniloss average_precision": (lambda: mg.UniLoss("average_precision"), binary),
    "uniloss auroc one against rest": (lambda: mg.UniLoss("auroc"), multiclass),
    "uniloss mrr": (lambda: mg.UniLoss("mrr"), multiclass),
    "uniloss spearman": (lambda: mg.UniLoss("spearman"), regression),
    "uniloss retrieval_recall": (lambda: mg.UniLoss("retrieval_recall:k=2"), embeddings),
    "uniloss map_at_r": (lambda: mg.UniLoss("map_at_r"), embeddings),
    "inverse distance map_at_r": (lambda: mg.UniLoss("map_at_r", interpolation="inverse_distance"), embeddings),
    "uniloss mse": (lambda: mg.UniLoss("mse"), regression),
    "inverse distance accuracy": (lambda: mg.UniLoss("accuracy", interpolation="inverse_distance"), multiclass),
    "inverse distance ap": (lambda: mg.UniLoss("average_precision", interpolation="inverse_distance"), binary),
    "uniloss span_f1": (lambda: mg.UniLoss("span_f1"), spans),
    "uniloss exact_match": (lambda: mg.UniLoss("exact_match"), spans),
    "inverse distance span_f1": (lambda: mg.UniLoss("span_f1", interpolation="inverse_distance"), spans),
    "paper ap": (lambda: mg.UniLoss("average_precision", paper=True), binary),
    "released accuracy": (lambda: mg.UniLoss("accuracy", paper="released"), multiclass),
    "probability network": (lambda: Loss(ProbabilityNetwork(), RankCorrelation("accuracy")), multiclass),
    "probability network binary": (lambda: Loss(ProbabilityNetwork()), binary),
    "probability network multilabel": (lambda: Loss(ProbabilityNetwork()), multilabel),
    "paper's probability network": (lambda: Loss(ProbabilityNetwork(monotone=False)), multiclass),
    "set network f1": (lambda: Loss(SetNetwork(), RankCorrelation("f1")), binary),
    "set network by value": (lambda: Loss(SetNetwork(), ValueRegression("f1")), binary),
    "set network macro_f1": (lambda: Loss(SetNetwork(), RankCorrelation("macro_f1")), multiclass),
    "set network macro_f1 multilabel": (lambda: Loss(SetNetwork(), RankCorrelation("macro_f1")), multilabel),
    "triplet": (lambda: Loss(DistanceMixture()), embeddings),
    "margin loss": (lambda: Loss(DistanceMixture.margin_loss()), embeddings),
    "distance mixture": (lambda: Loss(DistanceMixture(pull=0.5, push=0.4, draw=0.3, repel=2.0)), embeddings),
    "focal weighting": (lambda: Loss(FocalWeighting(a=2.0, b=6.0)), embeddings),
    "ala": (lambda: mg.ALA("accuracy", num_outputs=5), multiclass),
    "ala binary": (lambda: mg.ALA("f1", num_outputs=1), binary),
    "ala multilabel": (lambda: mg.ALA("macro_f1", num_outputs=None), multilabel),
    "ala with class weights": (
        lambda: mg.ALA("accuracy", ClassificationFamily(5, class_weights=True), num_outputs=5),
        multiclass,
    ),
    "correlation matrix": (lambda: mg.ALA("accuracy", CorrelationMatrix(5)), multiclass),
    "correlation matrix of low rank": (lambda: mg.ALA("accuracy", CorrelationMatrix(5, rank=2)), multiclass),
    "ranking family": (lambda: mg.ALA("average_precision", RankingFamily()), binary),
    "ranking family one against rest": (lambda: mg.ALA("auroc", RankingFamily()), multiclass),
    "mix": (
        lambda: mg.ALA("accuracy", Mix([mg.UniLoss("accuracy").form, ClassificationFamily(turns=())])),
        multiclass,
    ),
    "scaled network": (lambda: mg.ALA("f1", Scaled(SetNetwork())), binary),
    "random walk": (lambda: mg.ALA("accuracy", num_outputs=5, aligner="random_walk"), multiclass),
    "adalfl": (lambda: mg.AdaLFL(num_outputs=5, anchored=False), multiclass),
    "adalfl softplus": (lambda: mg.AdaLFL(output="softplus", anchored=False), multiclass),
    "adalfl binary": (lambda: mg.AdaLFL(kind="binary", anchored=False), binary),
    "adalfl multilabel": (lambda: mg.AdaLFL(kind="multilabel", anchored=False), multilabel),
    "adalfl regression": (lambda: mg.AdaLFL(kind="regression", anchored=False), regression),
    "adalfl residual": (lambda: mg.AdaLFL(num_outputs=5, residual=True), multiclass),
    "residual binary": (lambda: Loss(Residual("task"), LookAhead()), binary),
    "residual regression": (lambda: Loss(Residual("mse"), LookAhead()), regression),
    "residual on a network": (lambda: Loss(Residual(ProbabilityNetwork()), LookAhead()), multiclass),
    "learned rate": (lambda: Loss(LearnedRate("cross_entropy"), LookAhead()), multilabel),
    "toward a metric": (lambda: mg.AdaLFL(objective=mg.UniLoss("macro_f1"), anchored=False), multiclass),
    "probability network looking ahead": (lambda: Loss(ProbabilityNetwork(), LookAhead()), multiclass),
    "set network looking ahead": (lambda: Loss(SetNetwork(), LookAhead(lr=0.1)), binary),
    "uniloss looking ahead": (lambda: Loss(mg.UniLoss("macro_f1").form, LookAhead()), multiclass),
    "uniloss pck": (lambda: mg.UniLoss("pck"), heat_maps),
    "peak network": (lambda: Loss(PeakNetwork(), RankCorrelation("pck")), heat_maps),
    "heat-map network": (lambda: Loss(HeatmapNetwork(size=(5, 6)), RankCorrelation("pck")), heat_maps),
    "uniloss bleu": (lambda: mg.UniLoss("bleu"), sentences),
    "token network bleu": (lambda: Loss(TokenNetwork(positions=4), RankCorrelation("bleu")), sentences),
    "token network": (lambda: Loss(TokenNetwork(positions=8), RankCorrelation("accuracy")), sentences),
    "span network": (lambda: Loss(SpanNetwork(), RankCorrelation("accuracy")), spans),
    "regression network": (lambda: Loss(RegressionNetwork(), RankCorrelation("mae")), regression),
    "list network": (lambda: Loss(ListNetwork(), RankCorrelation("ndcg")), gains),
    "embedding network": (lambda: Loss(EmbeddingNetwork(), RankCorrelation("map_at_r")), embeddings),
    "embedding network looking ahead": (
        lambda: Loss(EmbeddingNetwork(), LookAhead(objective=mg.UniLoss("map_at_r"))),
        embeddings,
    ),
    "scaled embedding network": (lambda: mg.ALA("map_at_r", Scaled(EmbeddingNetwork())), embeddings),
    "mix of embedding losses": (
        lambda: mg.ALA("map_at_r", Mix([EmbeddingNetwork(), DistanceMixture()])),
        embeddings,
    ),
}

#: whose values may be negative: a learned loss has no natural zero
SIGNED: set[str] = {
    name for name in LOSSES if name.startswith(("adalfl", "residual", "toward")) and "softplus" not in name
}

FORMS: set[type] = {
    Anchored,
    Interpolated,
    Linearized,
    PaperInterpolated,
    ProbabilityNetwork,
    SetNetwork,
    ClassificationFamily,
    CorrelationMatrix,
    RankingFamily,
    Mix,
    Scaled,
    DistanceMixture,
    FocalWeighting,
    NeuralLoss,
    Residual,
    LearnedRate,
    HeatmapNetwork,
    PeakNetwork,
    TokenNetwork,
    SpanNetwork,
    RegressionNetwork,
    EmbeddingNetwork,
    ListNetwork,
}
ALIGNERS: set[type] = {
    Static,
    RankCorrelation,
    Policy,
    RandomWalk,
    LookAhead,
    ValueRegression,
}
