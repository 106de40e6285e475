"""Cutting data into training, validation and test parts, by a seed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Part = tuple[Tensor, ...]


class Splits(NamedTuple):
    """The three parts of one draw, each ``(inputs, targets)``, or with the weights of its rows."""

    train: Part
    valid: Part
    test: Part


def split(
    inputs: Tensor, targets: Tensor, seed: int, *, valid: float = 0.2, test: float = 0.2, stratify: bool = False
) -> Splits:
    """Shuffle with a seed and cut.

    Args:
        inputs: ``(N, ...)``.
        targets: ``(N,)``.
        seed: decides the shuffle, whatever the global random state.
        valid: share of the validation part.
        test: share of the test part.
        stratify: cut each class by itself, so that every part has the class rates of the whole.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = (
        [(targets == c).nonzero().squeeze(1) for c in targets.unique()] if stratify else [torch.arange(len(targets))]
    )
    parts: list[list[Tensor]] = [[], [], []]
    for group in groups:
        order = group[torch.randperm(len(group), generator=generator)]
        a, b = round(len(order) * (1 - valid - test)), round(len(order) * (1 - test))
        for part, cut in zip(parts, (order[:a], order[a:b], order[b:]), strict=True):
            part.append(cut)
    index = [torch.cat(part) for part in parts]
    return Splits(*((inputs[i], targets[i]) for i in index))


def standardise(parts: Splits, *, features: bool = True) -> Splits:
    """Inputs to mean 0 and deviation 1 by the training part's statistics.

    Args:
        parts: inputs ``(N, D)``.
        features: each feature by its own statistics; False takes one mean and one deviation for all, which suits
            pixels, where a border pixel that is nearly always black would be blown up.
    """
    inputs = parts.train[0]
    mean, deviation = (inputs.mean(0), inputs.std(0)) if features else (inputs.mean(), inputs.std())
    scale = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))
    return Splits(*(((inputs - mean) / scale, targets) for inputs, targets in parts))


def thin(targets: Tensor, positive: Tensor, rate: float, seed: int, size: int | None = None) -> Tensor:
    """Indices that keep the negatives and as many positives as give ``rate`` of them.

    Args:
        targets: ``(N,)``, for the length alone.
        positive: ``(N,)`` booleans.
        rate: the share of positives in what is kept.
        seed: decides which are kept.
        size: items kept in all; by default as many as all the negatives allow.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    positives, negatives = order[positive[order]], order[~positive[order]]
    count = round(len(negatives) * rate / (1 - rate)) if size is None else round(size * rate)
    kept = len(negatives) if size is None else size - count
    return torch.cat([positives[:count], negatives[:kept]])
