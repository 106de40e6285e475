"""Anchor configurations for inverse distance weighting: in score space, or by flipping bits as the paper does.

Every set of anchors begins with one ideal configuration, then come ``each`` good, ``each`` bad and ``each`` nearby ones
(UniLoss, section 3.4). An anchor that is a set of scores is consistent by construction, and the metric is called on it
as it is; of random bit patterns over positive-negative pairs nearly all are cyclic, and no ranking realises them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.refactoring.base import Refactoring


def score_anchors(
    refactoring: Refactoring,
    scores: Tensor,
    targets: Tensor,
    *,
    each: int,
    flips: int,
    generator: torch.Generator,
    groups: Tensor | None = None,
) -> Tensor:
    """``(1 + 3 * each, *scores.shape)`` score sets.

    Good: distinct ideal configurations with ``flips`` decisions moved, so that no single optimum is favoured. Bad:
    random scores. Nearby: the current scores with ``flips`` decisions moved.
    """
    hard = scores.detach()
    best = refactoring.ideal(hard, targets, 1 + each, generator, groups=groups)
    good = refactoring.perturbed(best[1:], targets, flips, generator)
    bad = refactoring.random(hard, targets, each, generator)
    nearby = refactoring.perturbed(hard.expand(each, *hard.shape), targets, flips, generator)
    return torch.cat([best[:1], good, bad, nearby])


def corrupted(refactoring: Refactoring, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
    """``(6, *scores.shape)``: three ideal score sets with a quarter of their decisions moved, and three random ones."""
    generator, hard = torch.Generator().manual_seed(0), scores.detach()
    ideal = refactoring.ideal(hard, targets, 3, generator, groups=groups)
    moved = refactoring.perturbed(ideal, targets, max(1, targets.numel() // 4), generator)
    return torch.cat([moved, refactoring.random(hard, targets, 3, generator)])


def bit_anchors(current: Tensor, *, each: int, flips: int, released: bool, generator: torch.Generator) -> Tensor:
    """``(1 + 3 * each, l)`` binaries, by flipping bits.

    Args:
        current: ``(l,)`` booleans, the binaries of the current scores.
        each: anchors of each type.
        flips: how many bits a good or nearby anchor has flipped.
        released: as the released code does it: exactly one bit, and a nearby anchor corrects one *wrong* bit; where
            none is wrong any more, it has one bit of the best flipped, as a good one has.
        generator: a CPU generator.
    """
    length, device = len(current), current.device
    best = torch.ones(1, length, dtype=torch.bool, device=device)

    def flipped(base: Tensor, candidates: Tensor, count: int) -> Tensor:
        keys = torch.rand((each, length), generator=generator).to(device) * candidates
        index = keys.topk(min(count, length), 1).indices
        change = torch.zeros(each, length, dtype=torch.bool, device=device).scatter(1, index, True) & (keys > 0)
        return base ^ change

    count = 1 if released else flips
    everything = torch.ones_like(current)
    good = flipped(best, everything, count)
    bad = torch.rand((each, length), generator=generator).to(device) > 0.5
    corrects = released and not bool(current.all())
    nearby = flipped(current[None], ~current if corrects else everything, count)
    return torch.cat([best, good, bad, nearby])


def nearest(comparisons: Tensor, owners: Tensor, share: float) -> Tensor:
    """``(k,)`` ascending indices of the comparisons nearest to being violated: of each owner its share, at least one.

    Of a row, say, these are the target's against the best-scored rivals.

    Args:
        comparisons: ``(l,)``.
        owners: ``(l,)``; see :meth:`metricgrad.refactoring.base.Refactoring.owners`.
        share: in (0, 1].
    """
    order = comparisons.detach().argsort()
    order = order[owners[order].argsort(stable=True)]
    size = torch.bincount(owners)
    owner = owners[order]
    place = torch.arange(len(order), device=order.device) - (size.cumsum(0) - size)[owner]
    return order[place < (share * size).round().clamp(min=1)[owner]].sort().values
