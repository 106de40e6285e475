"""Metrics of predicted labels: a threshold at 0 for every entry, or an argmax for every row."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from metricgrad.refactoring.base import Moves, Refactoring

Exchangeable = Literal["all", "column", "row", "none"]


def _choose(mass: Tensor, budget: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of at most ``budget`` strata and the importance weights that keep their weighted sum unbiased."""
    alive = mass.detach() > 0
    index = alive.nonzero().squeeze(-1)
    if len(index) <= budget:
        return index, torch.ones_like(mass[index])
    share = mass.detach()[index] / mass.detach()[index].sum()
    # systematic sampling: one uniform draw, `budget` equally spaced points on the cumulated mass
    points = (torch.arange(budget) + torch.rand(1, generator=generator)).to(share) / budget
    drawn = torch.searchsorted(share.cumsum(0), points).clamp(max=len(index) - 1)
    unique, counts = drawn.unique(return_counts=True)
    return index[unique], counts.to(share) / (budget * share[unique])


class Argmax(Refactoring):
    """Only each row's largest score matters: accuracy, macro-F1, kappa.

    Scores are ``(N, C)``, targets ``(N,)``. The comparisons are ``s_y - s_j`` for every other class j (Eq. 7).
    """

    name: ClassVar[str] = "argmax"

    def __init__(self, *, exchangeable: Exchangeable = "all") -> None:
        self.exchangeable: Exchangeable = exchangeable

    def comparisons(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(N * (C - 1),)``: the target's score minus each other class's."""
        right = scores.gather(1, targets.long()[:, None])
        others = torch.ones_like(scores, dtype=torch.bool).scatter(1, targets.long()[:, None], False)
        return (right - scores)[others]

    def ideal(self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Each target class on top by a margin of one; the order below it is drawn anew in each set."""
        noise = torch.rand((count, *scores.shape), generator=generator).to(scores)
        return noise.scatter(2, targets.long()[None, :, None].expand(count, -1, 1), 2.0)

    def moves(
        self, scores: Tensor, targets: Tensor, *, softness: Tensor, budget: int, generator: torch.Generator
    ) -> Moves:
        """Rows move to another class; rows of equal (target, prediction) share one move where they may."""
        n, c = scores.shape
        hard = scores.detach()
        predicted = hard.argmax(1)
        probability = (scores / softness).softmax(1)
        row = torch.arange(n, device=scores.device)
        if self.exchangeable == "all":
            group, representative = _first_of_each(targets.long() * c + predicted)
        else:
            group, representative = row, row
        mass = scores.new_zeros(len(representative), c).index_add(0, group, probability)
        mass = mass.scatter(1, predicted[representative][:, None], 0.0).reshape(-1)
        index, weight = _choose(mass, budget, generator)
        rows, classes = representative[index // c], index % c
        anchors = hard.expand(len(index), n, c).clone()
        anchors[torch.arange(len(index)), rows, classes] = hard[rows].amax(1) + 1.0
        return Moves(anchors, mass[index] * weight)


def _first_of_each(key: Tensor) -> tuple[Tensor, Tensor]:
    """Group number of each entry, and the index of the first entry in each group."""
    _, group = key.unique(return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(key), device=key.device)
    first.scatter_reduce_(0, group, torch.arange(len(key), device=key.device), "amin")
    return group, first
