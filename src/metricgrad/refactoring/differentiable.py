"""Metrics that need no surrogate: they are differentiable in the scores as they are."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.refactoring.base import Moves, Refactoring, Shapes


class Differentiable(Refactoring):
    """The metric is its own loss: MSE, MAE, R2, log-loss.

    Args:
        of_classes: whether targets are classes, so that ideal scores are large logits rather than the targets.
    """

    name: ClassVar[str] = "differentiable"
    shapes: ClassVar[Shapes | None] = "either"

    def __init__(self, *, of_classes: bool = False) -> None:
        self.of_classes = of_classes

    def _refuse(self) -> NoReturn:
        raise MetricgradError(
            "this metric is differentiable in the scores and compares nothing: use it as the loss itself"
        )

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Refused: there are none."""
        self._refuse()

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Refused: there are no binaries."""
        self._refuse()

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """The targets themselves; for class targets, large logits on their side."""
        if scores.ndim > targets.ndim:
            best = 60.0 * torch.nn.functional.one_hot(targets.long(), scores.shape[-1])
        else:
            best = targets.to(scores).logit().clamp(-60, 60) if self.of_classes else targets
        return best.to(scores).expand(count, *scores.shape)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Refused: nothing is decided, so nothing can be flipped."""
        self._refuse()

    def moves(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        softness: Tensor,
        q: float,
        budget: int,
        share: float,
        generator: torch.Generator,
        groups: Tensor | None = None,
    ) -> Moves:
        """Refused: the gradient is the metric's own."""
        self._refuse()
