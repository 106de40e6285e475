"""How one run of a comparison is trained: a network on a loss, what the task itself brings, the mean of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn

from metricgrad.metrics.metric import Metric
from metricgrad.tasks.task import Learner, Task
from metricgrad.training.average import averaged
from metricgrad.training.batches import Data, context_of
from metricgrad.training.delivery import Asked, Delivery
from metricgrad.training.fit import fit
from metricgrad.training.result import FitResult

_APART = 10_000_000
"""Between the seeds of trainings that are averaged; no other run's seed is reached."""


def seeds_of(seed: int, models: int) -> list[int]:
    """The seeds of the trainings that are averaged; the first is that of one alone."""
    return [seed + _APART * number for number in range(models)]


@dataclass(frozen=True)
class Training:
    """What one run is trained from.

    Attributes:
        params: learning rate, weight decay, and what is tuned of the loss.
        seed: of everything random.
        train: the training part.
        valid: chooses the epoch and the decision.
        metric: what decides.
        decision: as in :func:`metricgrad.fit`.
        share: of the epochs, in (0, 1]: short runs show which parameters are not worth long ones.
    """

    params: dict[str, float]
    seed: int
    train: Data
    valid: Data
    metric: Metric
    decision: Asked
    share: float = 1.0


class Trained(NamedTuple):
    """What came of it: the result, and the loss it was trained on, where that is one module."""

    result: FitResult
    loss: nn.Module | None


Train = Callable[[Training], Trained]


def on_loss(task: Task, made: Callable[[dict[str, float], int, Data], nn.Module]) -> Train:
    """A fresh network of the task, trained on the loss made of parameters, a seed and the training part."""

    def train(asked: Training) -> Trained:
        torch.manual_seed(asked.seed)
        network, loss = task.model(), made(asked.params, asked.seed, asked.train)
        result = fit(
            network, asked.train, asked.valid, metric=asked.metric, loss=loss, lr=asked.params["lr"],
            weight_decay=asked.params["weight_decay"], epochs=max(1, round(asked.share * task.epochs)),
            batch_size=task.batch_size, seed=asked.seed, per_class=task.per_class, progress=False, device=task.device,
            decision=asked.decision,
        )  # fmt: skip
        return Trained(result, loss)

    return train


def by_learner(learner: Learner) -> Train:
    """What the task can be learned with beside its network."""

    def train(asked: Training) -> Trained:
        result = learner.fit(
            asked.train, asked.valid, params=asked.params, metric=asked.metric, decision=asked.decision,
            seed=asked.seed, share=asked.share,
        )  # fmt: skip
        return Trained(result, None)

    return train


def average_of(train: Train, models: int) -> Train:
    """The mean of several trainings on the same parts, which differ in their seeds."""

    def train_all(asked: Training) -> Trained:
        results = [train(replace(asked, seed=seed)).result for seed in seeds_of(asked.seed, models)]
        delivery = Delivery(asked.metric, asked.decision, asked.seed, context_of(asked.valid))
        return Trained(averaged(results, asked.valid, delivery), None)

    return train_all
