"""One registry of every loss form and aligner; the contract tests run over it, and fail where one is missing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import metricgrad as mg
from metricgrad.aligners.rank_correlation import RankCorrelation
from metricgrad.aligners.static import Static
from metricgrad.loss import Loss
from metricgrad.losses.heatmap_network import HeatmapNetwork
from metricgrad.losses.interpolated import Interpolated
from metricgrad.losses.probability_network import ProbabilityNetwork
from metricgrad.losses.set_network import SetNetwork

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


def heat_maps(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = _generator(n)
    return torch.randn(n, 5, 6, generator=g).to(dtype), torch.randint(5, (n, 2), generator=g)


#: name -> (factory of a fresh loss, data)
LOSSES: dict[str, tuple[Callable[[], Loss], Data]] = {
    "uniloss f1": (lambda: mg.UniLoss("f1"), binary),
    "uniloss macro_f1": (lambda: mg.UniLoss("macro_f1"), multiclass),
    "uniloss macro_f1 multilabel": (lambda: mg.UniLoss("macro_f1"), multilabel),
    "uniloss quadratic_kappa": (lambda: mg.UniLoss("quadratic_kappa"), multiclass),
    "uniloss top-2": (lambda: mg.UniLoss("top_k_accuracy:k=2"), multiclass),
    "uniloss average_precision": (lambda: mg.UniLoss("average_precision"), binary),
    "uniloss auroc one against rest": (lambda: mg.UniLoss("auroc"), multiclass),
    "uniloss mrr": (lambda: mg.UniLoss("mrr"), multiclass),
    "uniloss spearman": (lambda: mg.UniLoss("spearman"), regression),
    "uniloss mse": (lambda: mg.UniLoss("mse"), regression),
    "inverse distance accuracy": (lambda: mg.UniLoss("accuracy", interpolation="inverse_distance"), multiclass),
    "inverse distance ap": (lambda: mg.UniLoss("average_precision", interpolation="inverse_distance"), binary),
    "paper ap": (lambda: mg.UniLoss("average_precision", paper=True), binary),
    "released accuracy": (lambda: mg.UniLoss("accuracy", paper="released"), multiclass),
    "probability network": (lambda: Loss(ProbabilityNetwork(), RankCorrelation("accuracy")), multiclass),
    "probability network binary": (lambda: Loss(ProbabilityNetwork()), binary),
    "probability network multilabel": (lambda: Loss(ProbabilityNetwork()), multilabel),
    "paper's probability network": (lambda: Loss(ProbabilityNetwork(monotone=False)), multiclass),
    "set network f1": (lambda: Loss(SetNetwork(), RankCorrelation("f1")), binary),
    "set network macro_f1": (lambda: Loss(SetNetwork(), RankCorrelation("macro_f1")), multiclass),
    "set network macro_f1 multilabel": (lambda: Loss(SetNetwork(), RankCorrelation("macro_f1")), multilabel),
    "uniloss pck": (lambda: mg.UniLoss("pck"), heat_maps),
    "heat-map network": (lambda: Loss(HeatmapNetwork(size=(5, 6)), RankCorrelation("pck")), heat_maps),
}

FORMS: set[type] = {Interpolated, ProbabilityNetwork, SetNetwork, HeatmapNetwork}
ALIGNERS: set[type] = {Static, RankCorrelation}
