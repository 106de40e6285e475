"""The interface of every refactoring: e = g(h(f(scores))) with f differentiable, h binary, g the metric itself.

A refactoring knows nothing of the metric's values. It says which comparisons of scores the metric can depend on
(UniLoss, Eq. 5 to 9), and makes score sets on which the unmodified metric is then called, so g never has to be
written by hand.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """Elementary changes of the decisions, for local linear interpolation.

    Attributes:
        anchors: ``(M, *scores.shape)`` detached scores; anchor m is the current scores after move m.
        mass: ``(M,)`` differentiable: how much of move m the soft decisions have already made, so that the
            interpolated metric is ``g(scores) + sum_m mass_m * (g(anchor_m) - g(scores))``.
    """

    anchors: Tensor
    mass: Tensor


class Refactoring(abc.ABC):
    """Abstract: what a metric reads from the scores."""

    name: ClassVar[str]

    @abc.abstractmethod
    def comparisons(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(l,)`` differences of scores, differentiable; above 0 the comparison is decided the right way."""

    def binaries(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(l,)`` booleans: the comparisons decided the right way (h, Eq. 4)."""
        return self.comparisons(scores, targets) > 0

    @abc.abstractmethod
    def ideal(self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """``(count, *scores.shape)`` score sets with every comparison right, different from each other where possible."""

    @abc.abstractmethod
    def moves(
        self, scores: Tensor, targets: Tensor, *, softness: Tensor, budget: int, generator: torch.Generator
    ) -> Moves:
        """The elementary moves from the current scores, at most ``budget`` of them."""

    def spread(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d: mean absolute comparison, the scale that softness is measured against."""
        return self.comparisons(scores.detach(), targets).abs().mean()
