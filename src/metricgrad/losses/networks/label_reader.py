"""How learned losses read labels, and what their reports hold beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.batches import labelled
from metricgrad.losses.networks.reader import BatchLoss, Reader
from metricgrad.precision import wide


class LabelReader(Reader):
    """Abstract: reads logits and labels, whole rows of them."""

    of_labels: ClassVar[bool] = True
    standard_name: ClassVar[str] = "cross_entropy"
    #: Whether the entries that a mask leaves of ``(N, C)`` targets may be read as one list.
    pooled: ClassVar[bool] = False

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(N,)`` or ``(N, C)`` logits and whole targets."""
        return labelled(scores, targets, mask, pooled=self.pooled)

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return CrossEntropy()(scores, targets)

    def rivals(self) -> Mapping[str, BatchLoss]:
        """Cross-entropy without a temperature, and the error rate: how much of a correlation is accuracy's."""
        return {"standardised_cross_entropy": standardised_cross_entropy, "error_rate": error_rate}


def standardised_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """0-d: cross-entropy of scores at unit spread, so that a batch's temperature says nothing."""
    return CrossEntropy()(scores / (scores.std() + 1e-12), targets)


def error_rate(scores: Tensor, targets: Tensor) -> Tensor:
    """0-d: the share of labels that are wrong."""
    predicted = (scores > 0) if scores.shape == targets.shape else scores.argmax(-1)
    return wide(predicted != targets).mean()
