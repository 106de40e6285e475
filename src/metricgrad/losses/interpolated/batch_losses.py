"""What a way of linearising a metric makes of one batch, in the scores that the metric reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.losses.base import Parts, Ramp, Told
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.batch import Batch, checked

OVER_TO_METRIC = (Ramp(1.0, 0.3), Ramp(0.0, 1.0))  # what is left of the base: benchmarks/base_share.py
ALONE = (Ramp(0.0, 0.0), Ramp(1.0, 1.0))
TO_FLOOR = (Ramp(1.0, 0.1, 0.5), Ramp(0.0, 1.0, 0.5))


@dataclass(frozen=True)
class BatchLosses:
    """Parts of a batch as the metric reads it.

    Attributes:
        gradients: in its scores.
        losses: as functions of its scores.
        shown: 0-d, or how that follows.
        ramps: of the base's weight and of theirs.
        cross_entropy: the gradient of cross-entropy, where it comes along.
        matched: whether they are brought to the size of the base.
    """

    gradients: tuple[Tensor, ...]
    losses: Callable[[Tensor], tuple[Tensor, ...]]
    shown: Tensor | Told
    ramps: tuple[Ramp, Ramp]
    cross_entropy: Tensor | None = None
    matched: bool = True

    def parts(
        self, metric: Metric, batch: Batch, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None]
    ) -> Parts:
        """The same of the scores as they came, of which ``batch`` is what the metric reads."""

        def again(scores: Tensor) -> tuple[Tensor, ...]:
            return self.losses(checked(metric, scores, targets, context, check_finite=False).scores)

        def of_given(gradient: Tensor) -> Tensor:
            if batch.scores is scores:
                return gradient
            return torch.autograd.grad(batch.scores, scores, gradient, retain_graph=True)[0]

        standard = self.cross_entropy
        return Parts(
            again, None, tuple(map(of_given, self.gradients)), self.shown, *self.ramps,
            matched=self.matched, cross_entropy=None if standard is None else of_given(standard),
        )  # fmt: skip


def lost(batch: Batch, _: object) -> BatchLosses:
    """Of a batch with NaN among its scores, of which nothing is kept: all NaN, as loss scaling has to see."""
    scores = batch.scores.detach()
    nan = scores.new_tensor(torch.nan)
    return BatchLosses((nan.expand_as(scores),), lambda s: ((s * nan).sum(),), nan, TO_FLOOR)


def no_losses(scores: Tensor) -> BatchLosses:
    """Of a batch on which the metric is undefined."""
    scores = scores.detach()
    return BatchLosses((torch.zeros_like(scores),), lambda s: (s.sum() * 0.0,), scores.new_zeros(()), TO_FLOOR)


def nothing(scores: Tensor) -> Tensor:
    """0-d zero with a zero gradient, connected to the scores; of NaN both are NaN, as loss scaling has to see."""
    return (scores * (scores.detach() * 0.0)).sum().abs()
