"""The task: what a comparison runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Split = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """Data, a model factory, a metric, and the loss people use today."""

    name: str
    model: Callable[[], nn.Module]
    load: Callable[[int], tuple[Split, Split, Split]]
    metric: str
    standard: str
    epochs: int = 20
    batch_size: int = 64


def split(inputs: Tensor, targets: Tensor, seed: int, valid: float = 0.2, test: float = 0.2) -> tuple[Split, ...]:
    """Shuffle with a seed and cut into train, valid and test."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    a, b = int(len(order) * (1 - valid - test)), int(len(order) * (1 - test))
    return tuple((inputs[part], targets[part]) for part in (order[:a], order[a:b], order[b:]))
