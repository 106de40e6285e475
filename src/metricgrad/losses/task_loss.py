"""The loss people use today for each kind of problem: what a learned loss is meta-learned toward by default."""

from __future__ import annotations

from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.cross_entropy import CrossEntropy
from metricgrad.losses.neural import PROBLEMS, Problem
from metricgrad.metrics.decoding import canonical, is_binary


class TaskLoss(nn.Module):
    """Cross-entropy for classes and labels, the mean squared error for values.

    Args:
        kind: as in :class:`metricgrad.losses.neural.NeuralLoss`; ``"auto"`` looks at shapes and targets at each call.

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
        self._labels = CrossEntropy()

    def forward(self, scores: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """0-d, in the dtype of the scores."""
        if self.kind == "regression" or (self.kind == "auto" and _are_values(scores, targets)):
            dtype = scores.dtype
            scores, targets = canonical(scores, targets, mask)
            if not targets.numel():
                return (scores * 0).sum().to(dtype)
            return (scores - targets).square().mean().to(dtype)
        return self._labels(scores, targets, mask=mask)

    def extra_repr(self) -> str:
        """Its setting."""
        return f"kind={self.kind!r}"


def _are_values(scores: Tensor, targets: Tensor) -> bool:
    same = scores.shape == targets.shape or scores.shape == (*targets.shape, 1)
    return same and not is_binary(targets)
