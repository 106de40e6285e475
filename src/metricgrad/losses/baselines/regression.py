"""The losses people use today for real values: the mean squared and the mean absolute error."""

from __future__ import annotations

import abc

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import rows_of
from metricgrad.losses.calling import ScoreLoss
from metricgrad.losses.registry import REGRESSION, Entry, register


class _ErrorLoss(ScoreLoss, abc.ABC):
    """Abstract: the mean over all entries of a function of the error."""

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: ``(N,)``, ``(N, 1)`` or ``(N, C)``.
            targets: of the same shape, but for a last axis of 1.
            context: ``mask``, booleans shaped like the leading axes of ``targets``: False rows or entries are left out;
                ``sample_weight``, ``(N,)`` numbers from 0 up: a row of weight 2 counts as two.

        Returns:
            0-d, in float32 at least; zero with a zero gradient for an empty batch.

        Raises:
            MetricgradError: for class scores, and for context that is not taken or not valid.
        """
        rows = rows_of(scores, targets, context, takes=("sample_weight",), who=type(self).__name__)
        if not rows.elementwise:
            raise MetricgradError(
                f"{type(self).__name__} compares scores and targets of one shape, got {tuple(scores.shape)} and "
                f"{tuple(targets.shape)}; classes take cross_entropy"
            )
        if not rows.targets.numel():
            return (rows.scores * 0).sum()
        return rows.mean(self.of_errors(rows.scores - rows.targets.to(rows.scores.dtype)))

    @abc.abstractmethod
    def of_errors(self, errors: Tensor) -> Tensor:
        """What each error costs."""


class SquaredError(_ErrorLoss):
    """The mean squared error.

    Use it first for real values. Not where a few targets are far off: their errors count squared.

    Example:
        >>> import torch
        >>> float(SquaredError()(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 0.0])))
        2.0
    """

    def of_errors(self, errors: Tensor) -> Tensor:
        """Their squares."""
        return errors.square()


class AbsoluteError(_ErrorLoss):
    """The mean absolute error.

    Use it where the median is wanted, or some targets are far off. Its gradient does not shrink near the target.

    Example:
        >>> import torch
        >>> float(AbsoluteError()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])))
        1.0
    """

    def of_errors(self, errors: Tensor) -> Tensor:
        """Their sizes."""
        return errors.abs()


register("mse", Entry(SquaredError, REGRESSION, "mean squared error", standard=True))
register("mae", Entry(AbsoluteError, REGRESSION, "mean absolute error", standard=True))
