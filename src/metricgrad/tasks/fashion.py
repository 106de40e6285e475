"""Fashion-MNIST: a seeded draw of 20,000 of its 70,000 images; all ten classes, and one rare class against the rest."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from metricgrad.tasks.fashion_data import read_fashion
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, split, standardise, thin
from metricgrad.tasks.task import Task

SIZE = 20_000
SHIRT = 6
RARE_RATE = 0.02


@functools.cache
def _fashion() -> tuple[Tensor, Tensor]:
    images, labels = read_fashion()
    return torch.from_numpy(images), torch.from_numpy(labels)


def _flat(images: Tensor) -> Tensor:
    return images.flatten(1).to(torch.float32) / 255


def _all(seed: int) -> Splits:
    images, labels = _fashion()
    kept = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:SIZE]
    return standardise(split(_flat(images[kept]), labels[kept], seed), features=False)


def _rare(seed: int) -> Splits:
    images, labels = _fashion()
    positive = labels == SHIRT
    kept = thin(labels, positive, RARE_RATE, seed, SIZE)
    return standardise(split(_flat(images[kept]), positive[kept].long(), seed, stratify=True), features=False)


def _ten_scores() -> nn.Module:
    return mlp(784, 10, (128,))


def _one_score() -> nn.Module:
    return mlp(784, None, (128,))


fashion = Task(
    "fashion",
    model=_ten_scores,
    load=_all,
    metric="macro_f1",
    kind="multiclass",
    device="cpu",
    epochs=10,
    batch_size=128,
    summary="Fashion-MNIST, ten classes, 20,000 images drawn by seed",
)
fashion_rare = Task(
    "fashion-rare",
    model=_one_score,
    load=_rare,
    metric="average_precision",
    kind="binary",
    device="cpu",
    epochs=10,
    batch_size=128,
    summary="Fashion-MNIST's shirts against the rest at 2 % positives, 20,000 images drawn by seed",
)
