"""Linear scorers of a few principal components of Fashion-MNIST: models that have to choose what to give up."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metricgrad.tasks.fashion_data import read_fashion

COMPONENTS = {"binary": 16, "multiclass": 4}
SIZES = {"binary": (10_000, 6_000, 20_000), "multiclass": (6_000, 4_000, 8_000)}


@functools.cache
def fashion_pixels() -> tuple[Tensor, Tensor]:
    """All of Fashion-MNIST."""
    images, labels = read_fashion()
    return torch.from_numpy(images).flatten(1).float() / 255, torch.from_numpy(labels)


def principal_components(parts: Sequence[tuple[Tensor, Tensor]], count: int) -> list[tuple[Tensor, Tensor]]:
    """The first components of the training part's inputs, scaled to a deviation of one there."""
    inputs = parts[0][0]
    centre = inputs.mean(0)
    axes = torch.linalg.eigh(torch.cov((inputs - centre).T)).eigenvectors[:, -count:]
    scale = ((inputs - centre) @ axes).std(0)
    return [((x - centre) @ axes / scale, y) for x, y in parts]


def load(family: str, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Fashion-MNIST's principal components: shirts against the rest at 5 %, or ten classes thinned 20:1."""
    inputs, labels = fashion_pixels()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    parts = []
    for size in SIZES[family]:
        if family == "binary":
            shirts, others = order[labels[order] == 6][: size // 20], order[labels[order] != 6][: size - size // 20]
            kept = torch.cat([shirts, others])
        else:
            rate = 20.0 ** (-torch.arange(10) / 9)
            sizes = (size * rate / rate.sum()).round().long().tolist()
            kept = torch.cat([order[labels[order] == c][:k] for c, k in enumerate(sizes)])
        order = order[~torch.isin(order, kept)]
        parts.append((inputs[kept], (labels[kept] == 6).long() if family == "binary" else labels[kept]))
    return principal_components(parts, COMPONENTS[family])


def scorer(family: str) -> nn.Module:
    """Linear: one score, or one for each class."""
    if family == "binary":
        return nn.Sequential(nn.Linear(COMPONENTS[family], 1), nn.Flatten(0))
    return nn.Linear(COMPONENTS[family], 10)
