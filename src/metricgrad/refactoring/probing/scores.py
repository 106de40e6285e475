"""Scores of graded quality for given targets, from ideal over corrupted and random to upside down.

A metric says something of itself only where it varies, and random scores or an untrained network's often lie where it
does not: exact match is 0 and precision@5 hardly moves there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.refactoring.probing.batch import ProbeBatch

_LIMIT = 4.0
"""Largest score: a float32 sigmoid still tells a million values up to 4 apart, and saturates into ties from 17 up."""

_LEVELS = (0.0, 0.03, 0.1, 0.25, 0.5, 1.0)
_UPSIDE_DOWN = (0.5, 0.1)


def graded_scores(batch: ProbeBatch, generator: torch.Generator) -> list[Tensor]:
    """Score sets of falling quality; neighbours in the list are of similar quality.

    Args:
        batch: the targets.
        generator: on the CPU.

    Returns:
        Eight score sets on the CPU: ideal, five with a growing share of entries (rows, for class indices) replaced at
        random, the last of them random altogether, and two that are half and almost entirely the wrong way round.
    """
    make = _class_scores if batch.kind == "classes" else _entry_scores
    shares = [(share, False) for share in _LEVELS] + [(share, True) for share in _UPSIDE_DOWN]
    return [make(batch, share, wrong, generator).to(batch.like.dtype) for share, wrong in shares]


def with_target_at(ranks: Tensor, targets: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """``(N, C)`` scores in which the target of row i has rank ``ranks[i]``, 0 on top; all else is drawn at random.

    Args:
        ranks: ``(N,)``, 0 to C - 1.
        targets: ``(N,)`` class indices.
        classes: C.
        generator: on the CPU.
    """
    rows = len(ranks)
    noise = torch.rand((rows, classes), generator=generator).scatter(1, targets[:, None], -1.0)
    order = noise.argsort(1)  # the target first, the others in random order
    others = torch.arange(classes - 1).expand(rows, -1)
    place = torch.cat([ranks[:, None], others + (others >= ranks[:, None])], 1)
    steps = 0.3 + 1.4 * torch.rand((rows, classes), generator=generator, dtype=torch.float64)
    ladder = -steps.cumsum(1)
    width = 1 + 3 * torch.rand((rows, 1), generator=generator, dtype=torch.float64)
    ladder = ladder / steps.sum(1, keepdim=True) * width
    offset = torch.randn((rows, 1), generator=generator, dtype=torch.float64)
    return torch.empty_like(ladder).scatter(1, order, ladder.gather(1, place)) + offset


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """``(N,)`` rank of each row's target, 0 on top."""
    return (scores > scores.gather(1, targets[:, None])).sum(1)


def _class_scores(batch: ProbeBatch, share: float, wrong: bool, generator: torch.Generator) -> Tensor:
    rows, classes = batch.shape
    targets = batch.targets.cpu().long()
    ranks = torch.full((rows,), classes - 1 if wrong else 0)
    anywhere = torch.randint(classes, (rows,), generator=generator)
    ranks = torch.where(_some(rows, share, generator), anywhere, ranks)
    return with_target_at(ranks, targets, classes, generator)


def _entry_scores(batch: ProbeBatch, share: float, wrong: bool, generator: torch.Generator) -> Tensor:
    targets = batch.targets.cpu().double().reshape(-1)
    size = len(targets)
    jitter = torch.rand(size, generator=generator, dtype=torch.float64)
    if batch.kind == "binary":
        latent = (2 * targets - 1) * (0.02 + jitter)
        replaced = torch.zeros(size, dtype=torch.bool)
        for value in (0, 1):  # of each class at least one, however rare it is
            members = (targets == value).nonzero().squeeze(-1)
            replaced[members] = _some(len(members), share, generator)
    else:
        level = targets.unique(return_inverse=True)[1]
        latent = (level + 0.9 * jitter) / (int(level.max()) + 0.9) * 2 - 1
        replaced = _some(size, share, generator)
    latent = -latent if wrong else latent
    latent = torch.where(replaced, 2.04 * torch.rand(size, generator=generator, dtype=torch.float64) - 1.02, latent)
    return evenly(latent).reshape(batch.shape)


def evenly(latent: Tensor) -> Tensor:
    """The order and the signs of ``(M,)`` values, spread evenly so that no two become ties in float32."""
    out = torch.empty_like(latent)
    for side in (latent > 0, latent <= 0):
        count = int(side.sum())
        rank = latent[side].argsort().argsort().to(latent)
        grid = (rank + 0.5) / max(1, count)
        out[side] = 0.02 + _LIMIT * grid if bool((latent[side] > 0).any()) else -0.02 - _LIMIT * (1 - grid)
    return out


def _some(count: int, share: float, generator: torch.Generator) -> Tensor:
    """A mask over ``count`` items with ``share`` of them, at least one where the share is positive."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.randperm(count, generator=generator)[: max(1, round(share * count)) if share else 0]] = True
    return chosen
