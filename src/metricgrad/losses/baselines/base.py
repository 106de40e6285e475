"""What hand-made losses share: where the classes stand; those of labels also how they read a batch and its context."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from metricgrad.losses.batches import Rows, as_labels, rows_of
from metricgrad.losses.calling import ScoreLoss
from metricgrad.metrics.layouts.class_targets import ClassDim, ClassTargets


class ClassLoss(ScoreLoss, abc.ABC):
    """Abstract: a loss of classes on axis 1 or the last."""

    #: The axis of the scores that holds the classes; None: told by the shape of the targets.
    class_dim: ClassDim | None = None

    def read(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor | None]]:
        """The batch with its classes last; see :meth:`ClassTargets.read`."""
        return ClassTargets(self.class_dim).read(scores, targets, context)


class LabelLoss(ClassLoss):
    """Abstract: a loss of logits and labels, written by hand."""

    #: What it reads of the context besides ``mask``.
    takes: ClassVar[frozenset[str]] = frozenset({"sample_weight"})

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: logits, any shape of :mod:`metricgrad.metrics.metric`: ``(N,)``, ``(N, C)``, or with further axes
                ``(N, C, ...)`` or ``(N, ..., C)``, told by ``targets`` or by the attribute ``class_dim``.
            targets: classes from 0 for scores with one more axis, otherwise 0 and 1; of any dtype.
            context: ``mask``, booleans shaped like the leading axes of ``targets``: False rows or entries are left out;
                ``sample_weight``, ``(N,)`` numbers from 0 up: a row of weight 2 counts as two; and for some losses
                ``groups``, ``(N,)`` integers: each query is a list by itself, their mean weighted by ``sample_weight``.

        Returns:
            0-d, in float32 at least; zero with a zero gradient for an empty batch.

        Raises:
            MetricgradError: for targets that are no labels, and for context that is not taken or not valid.
        """
        scores, targets, context = self.read(scores, targets, context)
        rows = as_labels(rows_of(scores, targets, context, takes=self.takes, who=type(self).__name__))
        return self.of_rows(rows) if rows.targets.numel() else (rows.scores * 0).sum()

    @abc.abstractmethod
    def of_rows(self, rows: Rows) -> Tensor:
        """0-d: the loss of a batch that is not empty."""
