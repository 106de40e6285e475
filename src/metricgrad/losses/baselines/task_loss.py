"""The loss people use today for each kind of problem: what a learned loss is meta-learned toward by default."""

from __future__ import annotations

from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines.base import ClassLoss
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.baselines.regression import SquaredError
from metricgrad.losses.registry import PROBLEMS, Problem
from metricgrad.metrics.decoding import canonical, is_binary


class TaskLoss(ClassLoss):
    """Cross-entropy for classes and labels, the mean squared error for values.

    Args:
        kind: as in :class:`metricgrad.losses.networks.neural.NeuralLoss`; ``"auto"`` looks at shapes and targets at
            each call.

    Raises:
        MetricgradError: for another kind.

    Example:
        >>> import torch
        >>> float(TaskLoss("regression")(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 0.0])))
        2.0
    """

    def __init__(self, kind: Problem = "auto") -> None:
        super().__init__()
        if kind not in PROBLEMS:
            raise MetricgradError(f"kind is {kind!r}; expected one of {', '.join(PROBLEMS)}")
        self.kind: Problem = kind
        self._labels, self._values = CrossEntropy(), SquaredError()
        self._labels.class_dim = -1  # read here

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d, in float32 at least; takes ``mask`` and ``sample_weight``, as both losses do."""
        scores, targets, context = self.read(scores, targets, context)
        values = self.kind == "regression" or (
            self.kind == "auto" and _are_values(scores, targets, context.get("mask"))
        )
        return (self._values if values else self._labels)(scores, targets, **context)

    def extra_repr(self) -> str:
        """Its setting."""
        return f"kind={self.kind!r}"


def _are_values(scores: Tensor, targets: Tensor, mask: Tensor | None) -> bool:
    check_tensor("scores", scores)
    check_tensor("targets", targets)
    same = scores.shape == targets.shape or scores.shape == (*targets.shape, 1)
    if not same:
        return False
    return not is_binary(targets if mask is None else canonical(scores, targets, mask)[1])
