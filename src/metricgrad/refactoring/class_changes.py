"""Decisions among several classes: which rows are tried in which class, and what that is expected to change.

Row r is of class c with probability :math:`p_{rc}`, and each of its classes is worth :math:`w_{rc}`, from 0 for the one
that makes the metric smallest to 1 for the one that makes it largest. The expected worth
:math:`\\sum_c p_{rc} w_{rc}` is the row's quality, a soft decision between its worst and its best class, and its logit
is what the tail exponent and the leak act on, as on the margin of a decision between two sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.leak import leak_rate
from metricgrad.refactoring.expectation import expected_change, quality_odds, worths
from metricgrad.refactoring.moves import MoveRequest
from metricgrad.refactoring.strata import choose, first_of_each


@dataclass(frozen=True)
class ClassChanges:
    """M moves of rows to other classes, in K of S strata.

    Attributes:
        log_share: ``(R, C)`` log-probabilities, differentiable in the scores.
        stratum: ``(R,)`` of each row.
        first: ``(S,)`` the row that moves for each stratum.
        index: ``(K,)`` the strata that are tried.
        weight: ``(K,)`` how many strata like itself each speaks for.
        mass: ``(K, C)`` how likely the rows of a stratum go to each class; 0 where they are.
        own: ``(K,)`` the class where they are.
        right: ``(K,)`` their target.
        where: ``(M,)`` the stratum that moves, of the K.
        to: ``(M,)`` the class it moves to.
        q: tail exponent.
    """

    log_share: Tensor
    stratum: Tensor
    first: Tensor
    index: Tensor
    weight: Tensor
    mass: Tensor
    own: Tensor
    right: Tensor
    where: Tensor
    to: Tensor
    q: float

    @property
    def rows(self) -> Tensor:
        """``(M,)`` the row that each move changes."""
        return self.first[self.index[self.where]]

    def change(self, delta: Tensor) -> Tensor:
        """0-d expected change, from ``(M,)`` changes of the metric."""
        worth, best, span = worths(self._of_all_classes(delta.to(self.mass)))
        slot = torch.full((len(self.first),), -1, device=self.index.device)
        slot[self.index] = torch.arange(len(self.index), device=self.index.device)
        rows = slot[self.stratum]
        tried = rows >= 0  # those drawn speak for the other strata by their weights
        rows = rows[tried]
        odds = quality_odds(self.log_share[tried], worth[rows])
        return expected_change(odds, best[rows] * self.weight[rows], span[rows] * self.weight[rows], self.q)

    def _of_all_classes(self, delta: Tensor) -> Tensor:
        """``(K, C)`` change of the metric for every class; an untried wrong class counts as the mean of the tried."""
        entry, right = (self.where, self.to), self.right[:, None]
        filled = torch.zeros_like(self.mass).index_put(entry, delta)
        tried = torch.zeros_like(self.mass).index_put(entry, torch.ones_like(delta)).scatter(1, right, 0.0)
        share = tried * self.mass
        mean = (share * filled).sum(1) / share.sum(1).clamp(min=torch.finfo(share.dtype).tiny)
        known = tried.scatter(1, right, 1.0).scatter(1, self.own[:, None], 1.0) > 0
        return torch.where(known, filled, mean[:, None])


def chosen_classes(
    log_share: Tensor, predicted: Tensor, targets: Tensor, key: Tensor, request: MoveRequest
) -> ClassChanges:
    """As many moves as the budget allows, the likeliest first.

    Args:
        log_share: ``(R, C)`` log-probabilities.
        predicted: ``(R,)`` classes where the moves start.
        targets: ``(R,)``.
        key: ``(R,)`` equal within a stratum.
        request: its budget, generator and tail exponent are read.
    """
    stratum, first = first_of_each(key)
    # what is surely wrong is tried as well, however unlikely it is to change
    behind = log_share.detach().gather(1, torch.stack([targets, predicted], 1))
    wrong = (predicted != targets) * leak_rate(behind[:, 0] - behind[:, 1])
    likely = log_share.detach().exp().scatter_add(1, targets[:, None], wrong[:, None])
    mass = likely.new_zeros(len(first), likely.shape[1]).index_add(0, stratum, likely)
    own, right = predicted[first], targets[first]
    mass = mass.scatter(1, own[:, None], 0.0)
    index, weight = choose(mass.sum(1), request.budget, request.generator)
    mass, own, right = mass[index], own[index], right[index]
    where, to = _tried(mass, own, right, request.budget)
    return ClassChanges(log_share, stratum, first, index, weight, mass, own, right, where, to, request.q)


def _tried(mass: Tensor, own: Tensor, right: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Strata and classes of the moves: one that each stratum cannot do without, then the likeliest others."""
    strata = torch.arange(len(own), device=own.device)
    needed = torch.where(own == right, mass.argmax(1), right)
    others = mass.scatter(1, needed[:, None], 0.0).reshape(-1)
    more = others.nonzero()[:, 0]
    if len(more) > budget - len(own):
        more = others.topk(budget - len(own)).indices
    c = mass.shape[1]
    return torch.cat([strata, more // c]), torch.cat([needed, more % c])
