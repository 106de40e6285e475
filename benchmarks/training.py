"""A plain loop that judges every epoch by several metrics, so that one run answers for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import metricgrad as mg

Part = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same for every loss of a comparison."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    epochs: int
    batch: int


@dataclass(frozen=True)
class Epoch:
    """What one epoch reached, by each metric."""

    valid: dict[str, float]
    test: dict[str, float]


def train(recipe: Recipe, loss: nn.Module, parts: Sequence[Part], metrics: Sequence[str], seed: int) -> list[Epoch]:
    """Train on ``parts[0]``; after each epoch score ``parts[1]`` and ``parts[2]`` by every metric."""
    torch.manual_seed(seed)
    model = recipe.model()
    optimizer = recipe.optimizer(list(model.parameters()))
    judges = {name: mg.as_metric(name) for name in metrics}
    inputs, targets = parts[0]
    epochs = []
    for _ in range(recipe.epochs):
        model.train()
        for index in torch.randperm(len(targets)).split(recipe.batch):
            value = loss(model(inputs[index]), targets[index])
            if not value.requires_grad or not torch.isfinite(value):
                continue
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            scores = [torch.nan_to_num(model(part[0])) for part in parts[1:]]
        valid, test = (
            {name: float(judge(s, part[1])) for name, judge in judges.items()}
            for s, part in zip(scores, parts[1:], strict=True)
        )
        epochs.append(Epoch(valid, test))
    return epochs


def selected(epochs: Sequence[Epoch], metric: str) -> tuple[float, float]:
    """(validation, test) of the epoch that is best on validation."""
    best = max(epochs, key=lambda epoch: epoch.valid[metric])
    return best.valid[metric], best.test[metric]
