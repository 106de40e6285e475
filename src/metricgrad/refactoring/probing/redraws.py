"""Redraws: each keeps one reading of the scores as it is, and draws everything else anew.

A metric whose value survives such redraws is determined by that reading. All of them redraw at full extent, every entry
at once: a metric that looks at five items of two hundred would not notice a small change. Scores are on the CPU, and so
is the generator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.refactoring.probing.exchange import shuffled
from metricgrad.refactoring.probing.scores import target_ranks, with_target_at

_HALVINGS = 20


def keep_signs(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the side of 0 of every entry."""
    size = scores.numel()
    magnitude = 0.02 + 4 * (torch.randperm(size, generator=generator) + 0.5).double() / size
    return (torch.where(scores > 0, 1.0, -1.0).double() * magnitude.reshape(scores.shape)).to(scores)


def keep_argmax(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the largest of every row of ``(N, C)`` scores."""
    top = scores.argmax(1)
    return with_target_at(torch.zeros_like(top), top, scores.shape[1], generator).to(scores)


def keep_top_k(scores: Tensor, targets: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Keep how many rows of each class have their target among the k largest; rows of one class change places."""
    rows, classes = scores.shape
    hit = shuffled(target_ranks(scores, targets) < k, targets, generator)
    inside = torch.randint(k, (rows,), generator=generator)
    outside = torch.randint(k, classes, (rows,), generator=generator)
    return with_target_at(torch.where(hit, inside, outside), targets, classes, generator).to(scores)


def keep_order(scores: Tensor, lists: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the order within each list: a strictly increasing map of its own for each.

    Args:
        scores: any shape.
        lists: list number of each entry, flat.
        generator: for the maps.
    """
    return _laid_out(scores, lists, _ascending(scores, lists), generator)


def keep_pairs(scores: Tensor, lists: Tensor, positive: Tensor, generator: torch.Generator) -> Tensor:
    """Keep every comparison of a positive with a negative of its list.

    Neighbours in the order that are both positive, or both negative, change places; then the list is mapped.

    Args:
        scores: any shape.
        lists: list number of each entry, flat.
        positive: booleans shaped like the scores.
        generator: for the places and the maps.
    """
    order = _ascending(scores, lists)
    label = 2 * lists[order] + positive.reshape(-1)[order]
    run = torch.zeros(len(order), dtype=torch.float64)
    run[1:] = (label[1:] != label[:-1]).cumsum(0)
    shuffle = (run + torch.rand(len(order), generator=generator, dtype=torch.float64)).argsort()
    return _laid_out(scores, lists, order[shuffle], generator)


def mix_columns(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the order of the softmax probabilities in each column: p becomes a p + (1 - a) c, c a random distribution.

    A map of a column is no invariance of a softmax, for rows sum to one; this is one that they survive.
    """
    p = scores.double().softmax(1)
    weight = 0.35 + 0.5 * torch.rand(1, generator=generator, dtype=torch.float64)
    other = torch.randn(p.shape[1], generator=generator, dtype=torch.float64).softmax(0)
    offset = 0.5 * torch.randn((len(p), 1), generator=generator, dtype=torch.float64)
    return ((weight * p + (1 - weight) * other).log() + offset).to(scores)


def keep_column_pairs(scores: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Keep each comparison, by softmax probability in a column, of a row of that class with a row of another.

    After :func:`mix_columns` every row moves at random, and those that broke a comparison move half as far, until
    none is broken.
    """
    start = mix_columns(scores.double(), generator)
    positive = torch.nn.functional.one_hot(targets, scores.shape[1])
    wanted = _passed(start.softmax(1), positive)
    step = 0.7 * torch.randn(start.shape, generator=generator, dtype=torch.float64)
    for halving in range(2 * _HALVINGS):
        moved = start + step
        off = (_passed(moved.softmax(1), positive) != wanted).any(1, keepdim=True)
        if not bool(off.any()):
            return moved.to(scores)
        step = torch.where(off, step / 2 if halving < _HALVINGS else torch.zeros_like(step), step)
    return start.to(scores)


def _passed(p: Tensor, positive: Tensor) -> Tensor:
    """``(N, C)``: how many of the other side stand below each entry of a column."""
    order = p.argsort(0)
    yes = positive.gather(0, order)
    below = torch.where(yes > 0, (1 - yes).cumsum(0), yes.cumsum(0))
    return torch.empty_like(below).scatter(0, order, below)


def _ascending(scores: Tensor, lists: Tensor) -> Tensor:
    """Entries list by list, each from its lowest to its highest score."""
    order = scores.reshape(-1).argsort(stable=True)
    return order[lists[order].argsort(stable=True)]


def _laid_out(scores: Tensor, lists: Tensor, order: Tensor, generator: torch.Generator) -> Tensor:
    """Scores that ascend along ``order`` within each list, with random gaps, around a random centre."""
    counts = torch.bincount(lists)
    gaps = 0.3 + 1.4 * torch.rand(len(order), generator=generator, dtype=torch.float64)
    climbed = torch.cat([gaps.new_zeros(1), gaps.cumsum(0)])
    start, end = climbed[counts.cumsum(0) - counts], climbed[counts.cumsum(0)]
    centre = 3 * torch.rand(len(counts), generator=generator, dtype=torch.float64) - 1.5
    half = 0.5 + 2.5 * torch.rand(len(counts), generator=generator, dtype=torch.float64)
    mine = lists[order]
    share = (climbed[1:] - start[mine]) / (end - start)[mine]
    values = centre[mine] + half[mine] * (2 * share - 1)
    return torch.empty_like(values).scatter(0, order, values).reshape(scores.shape).to(scores)
