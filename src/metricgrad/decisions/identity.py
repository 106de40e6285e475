"""No decision: the scores as they are."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import Tensor

from metricgrad.decisions.base import Decision, Reading
from metricgrad.metrics.layouts.class_targets import ClassDim
from metricgrad.metrics.metric import Metric


class Identity(Decision):
    """The plain reading of the raw scores: their side of 0, the class on top, their order or their value.

    Args:
        reading: how ``predict`` reads them; ``"value"`` hands them back.
        class_dim: the axis of the classes in scores of more than two axes.
    """

    kind: ClassVar[str] = "identity"

    def __init__(self, reading: Reading = "value", class_dim: ClassDim = -1) -> None:
        super().__init__()
        self.reading, self.class_dim = reading, class_dim

    def forward(self, scores: Tensor) -> Tensor:
        """The scores."""
        return scores

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """Nothing is fitted; the reading follows from what the metric reads and from shapes."""
        if metric.reads not in ("labels", "probabilities") or not metric.layout.of_decisions:
            return cls("value")
        return cls("argmax" if scores.ndim == targets.ndim + 1 and scores.shape[-1] > 1 else "threshold")

    def config(self) -> dict[str, Any]:
        """The reading."""
        return {"reading": self.reading, **({} if self.class_dim == -1 else {"class_dim": self.class_dim})}
