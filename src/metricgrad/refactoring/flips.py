"""Decisions between two sides: what all moves of thresholds, of the first k and of peaks have in common.

Unit u (an entry, a row, a map) flips with probability :math:`\\sigma(z_u)`, z its margin against the side it is on.
Units whose flips the metric cannot tell apart form a stratum, and one of them is flipped in their place: if
:math:`\\Delta` is what that changes, the stratum is expected to change the metric by
:math:`\\sum_u \\sigma(z_u) \\, \\Delta` to first order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.leak import leak_rate
from metricgrad.refactoring.expectation import expected_change
from metricgrad.refactoring.moves import MoveRequest
from metricgrad.refactoring.strata import choose, first_of_each


def flip_mass(flipping: Tensor, wrong: Tensor) -> Tensor:
    """``(U,)`` how likely each unit flips; what is surely wrong is tried as well, however unlikely it is to flip.

    Args:
        flipping: ``(U,)`` margins z of the flips.
        wrong: ``(U,)`` whether a flip would decide the unit right.
    """
    return flipping.detach().sigmoid() + wrong * leak_rate(flipping)


@dataclass(frozen=True)
class Flips:
    """Flips of U units in S strata, K of which are tried.

    Attributes:
        flipping: ``(U,)`` margins, differentiable in the scores.
        mass: ``(U,)`` how likely each unit flips; 0 leaves it out.
        stratum: ``(U,)`` of each unit.
        first: ``(S,)`` the unit that flips for each stratum.
        index: ``(K,)`` the strata that are tried.
        weight: ``(K,)`` how many strata like itself each speaks for.
        q: tail exponent.
    """

    flipping: Tensor
    mass: Tensor
    stratum: Tensor
    first: Tensor
    index: Tensor
    weight: Tensor
    q: float

    @property
    def units(self) -> Tensor:
        """``(K,)`` the units that flip, one in each move."""
        return self.first[self.index]

    def change(self, delta: Tensor) -> Tensor:
        """0-d expected change, from ``(K,)`` changes of the metric.

        Of its two sides a unit is best on the one that makes the metric larger: where the flip does, its quality is the
        probability to flip and the best change is the flip's; where it does not, the probability to stay, and 0.
        """
        each = self.flipping.new_zeros(len(self.first))
        each = each.index_put((self.index,), delta.to(self.flipping) * self.weight)[self.stratum]
        each = torch.where(self.mass > 0, each, torch.zeros_like(each))
        odds = torch.where(each > 0, self.flipping, -self.flipping)
        return expected_change(odds, each.clamp(min=0), each.abs(), self.q)


def chosen_flips(flipping: Tensor, mass: Tensor, key: Tensor, request: MoveRequest) -> Flips:
    """As many strata as the budget allows, the likeliest first.

    Args:
        flipping: see :class:`Flips`, as for ``mass``.
        mass: of the units.
        key: ``(U,)`` equal within a stratum.
        request: its budget, generator and tail exponent are read.
    """
    stratum, first = first_of_each(key)
    total = mass.new_zeros(len(first)).index_add(0, stratum, mass)
    index, weight = choose(total, request.budget, request.generator)
    return Flips(flipping, mass, stratum, first, index, weight, request.q)
