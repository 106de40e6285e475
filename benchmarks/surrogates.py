"""What the ReLoss benchmarks share: data in three parts, scores recorded while a model trains, blocks of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.aligners.fitting.agreement import losses_of
from metricgrad.aligners.fitting.blocks import Block, ScoreStore, labelled_by
from metricgrad.functional import spearman
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.baselines.gaussian_mse import GaussianMSE
from metricgrad.tasks.digits import read_digits
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, split, standardise

STEPS, BATCH, BLOCKS = 256, 64, 200
CORRELATION, VALUE = "ReLoss", "regression of the value"
OBJECTIVES: dict[str, dict[str, Any]] = {CORRELATION: {}, VALUE: {"objective": "value"}}
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Source:
    """Where scores come from.

    Attributes:
        draw: ``seed -> (train, fit, judge)`` pairs of inputs and targets, no item in two of them.
        model: a fresh model.
        standard: what it is trained on.
    """

    draw: Callable[[int], Splits]
    model: Callable[[], nn.Module]
    standard: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recorded:
    """Scores of the parts kept from training: at steps 0, 1, 2, 4 and so on for the fit; a list of moments to judge."""

    fit: Pair
    judge: list[Pair]


def _three(inputs: Tensor, targets: Tensor, seed: int, *, features: bool = False) -> Splits:
    """40 % to train on, 30 % to fit a loss on, 30 % to judge it on."""
    return standardise(split(inputs, targets, seed, valid=0.3, test=0.3, stratify=True), features=features)


def _digits(seed: int) -> Splits:
    return _three(*read_digits(), seed)


def _fashion(seed: int) -> Splits:
    from linear import fashion_pixels

    inputs, targets = fashion_pixels()
    rows = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:4000]
    return _three(inputs[rows], targets[rows], seed)


def _breast_cancer(seed: int) -> Splits:
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    return _three(torch.as_tensor(inputs).float(), torch.as_tensor(targets).long(), seed, features=True)


def _rare_digit(seed: int) -> Splits:
    inputs, targets = read_digits()
    return _three(inputs, (targets == 8).long(), seed)


def _figures(seed: int) -> Splits:
    from tasks.stick_figures.data import draw_figures

    return Splits(*(draw_figures(n, size=16, seed=3 * seed + k)[:2] for k, n in enumerate((384, 256, 256))))


def _hourglass(outputs: int) -> nn.Module:
    from tasks.stick_figures.model import Hourglass

    return Hourglass(outputs, width=8, depth=2)


SOURCES = {
    "digits": Source(_digits, lambda: mlp(64, 10), CrossEntropy()),
    "fashion": Source(_fashion, lambda: mlp(784, 10), CrossEntropy()),
    "breast-cancer": Source(_breast_cancer, lambda: mlp(30, None, (16,)), CrossEntropy()),
    "digit 8": Source(_rare_digit, lambda: mlp(64, None), CrossEntropy()),
    "figures": Source(_figures, lambda: _hourglass(11), GaussianMSE(sigma=1.0)),
}


def recorded(source: Source, seed: int) -> Recorded:
    """Train a model on the first part and record its scores of the other two."""
    train, fit, judge = source.draw(seed)
    torch.manual_seed(seed)
    model = source.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with mg.record_scores(model, optimizer, [fit]) as to_fit, mg.record_scores(model, optimizer, [judge]) as to_judge:
        for _ in range(STEPS):
            rows = torch.randint(len(train[1]), (BATCH,))
            optimizer.zero_grad()
            source.standard(model(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
    moments = list(zip(*(part.split(len(judge[1])) for part in (to_judge.scores, to_judge.targets)), strict=True))
    return Recorded((to_fit.scores, to_fit.targets), moments)


def fitted(metric: str, pair: Pair, *, seed: int, anchor: float = 0.0, **options: Any) -> mg.ReLoss:
    """A loss fitted to recorded scores; what the report says of it is measured here, so its warning is not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mg.ReLoss.fit(metric, *pair, seed=seed, anchor=anchor, **options)


def blocks_of(metric: str, moments: list[Pair], seed: int) -> tuple[list[Block], Tensor]:
    """Blocks of 64 rows, each of one moment of the training, and how bad the metric says they are."""
    judged_by = mg.as_metric(metric)
    stores = [ScoreStore.of(*moment, layout=judged_by.layout) for moment in moments]
    generator = torch.Generator().manual_seed(seed)

    def block() -> Block:
        store = stores[int(torch.randint(len(stores), (), generator=generator))]
        return store.draw(min(BATCH, len(store) // 2), "real", generator)

    return labelled_by(judged_by, block, BLOCKS)


def correlation(loss: Callable[[Tensor, Tensor], Tensor], blocks: list[Block], target_loss: Tensor) -> float:
    """Spearman's correlation of a loss with the metric over blocks; 0 for a loss that never varies."""
    return float(spearman(losses_of(loss, blocks), target_loss).nan_to_num(0.0))
