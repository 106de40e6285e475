"""Metrics that need no surrogate: they are differentiable in the scores as they are."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Structure
from metricgrad.refactoring.base import Refactoring, Shapes
from metricgrad.refactoring.moves import MoveRequest, Moves


class Differentiable(Refactoring):
    """The metric is its own loss: MSE, MAE, R2, log-loss.

    Args:
        of_classes: whether targets are classes, so that ideal scores are large logits rather than the targets.
    """

    name: ClassVar[str] = "differentiable"
    shapes: ClassVar[Shapes | None] = "either"

    def __init__(self, *, of_classes: bool = False) -> None:
        self.of_classes = of_classes

    @property
    def structure(self) -> Structure:
        """The same as what is known of a metric."""
        return Structure("differentiable", params={"of_classes": self.of_classes})

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
        return ideal_scores(scores, targets, self.of_classes).expand(count, *scores.shape)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Refused: nothing is decided, so nothing can be flipped."""
        self._refuse()

    def moves(self, request: MoveRequest) -> Moves:
        """Refused: the gradient is the metric's own."""
        self._refuse()


def ideal_scores(scores: Tensor, targets: Tensor, of_classes: bool) -> Tensor:
    """The targets themselves; where they are classes, large logits on their side. Shaped like the scores."""
    if scores.ndim > targets.ndim:
        return 60.0 * torch.nn.functional.one_hot(targets.long(), scores.shape[-1]).to(scores)
    return (targets.to(scores).logit().clamp(-60, 60) if of_classes else targets).to(scores)


def of_classes(structure: Structure, metric: Metric) -> bool:
    """Whether the targets of a differentiable metric are classes."""
    return structure.params.get("of_classes", metric.reads == "probabilities")
