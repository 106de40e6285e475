"""The cut at which a precision, or a recall, is reached."""

from __future__ import annotations

import abc
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision
from metricgrad.decisions.rows import Context, kept_rows
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide


class _OperatingPoint(Decision):
    """A threshold with the requirement it was made for."""

    threshold: Tensor

    def __init__(self, at: float, threshold: float = 0.0) -> None:
        super().__init__()
        if not 0 < at <= 1:
            raise MetricgradError(f"{type(self).__name__} of {at!r}; expected a share in (0, 1]")
        self.at = float(at)
        self.register_buffer("threshold", torch.as_tensor(threshold, dtype=torch.float64))

    @classmethod
    @abc.abstractmethod
    def of(cls, at: float, scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Self:
        """The cut on these scores ``(N,)`` with targets ``(N,)`` of 0 and 1, and the weights of the rows."""

    @classmethod
    def _of_metric(cls, at: float, metric: Metric, scores: Tensor, targets: Tensor, context: Context) -> Self:
        """Of the rows a mask keeps, at the metric's own ``pos_label``; the cut is on the scores as they come."""
        scores, targets, context = kept_rows(scores, targets, context)
        found = cls.of(at, *yes_of(metric, scores, targets), context.get("sample_weight"))
        return cls(at, -float(found.threshold)) if metric.class_targets.pos_label == 0 else found

    def forward(self, scores: Tensor) -> Tensor:
        """Scores minus the threshold."""
        return scores - self.threshold.to(scores)

    def config(self) -> dict[str, Any]:
        """The requirement and the threshold."""
        return {"at": self.at, "threshold": float(self.threshold)}


class AtPrecision(_OperatingPoint):
    """The cut of largest recall among those whose precision on the validation data is at least ``at``.

    What recall at a precision needs to be used: the metric itself only reads the order. Where no cut reaches the
    precision, the cut of largest precision is taken, and ``report()`` says so.

    Args:
        at: the precision, in (0, 1].
        threshold: the cut, on the logit scale.
    """

    kind: ClassVar[str] = "at_precision"

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """At the metric's own ``precision``."""
        return cls._of_metric(float(metric.fixed.get("precision", 0.9)), metric, scores, targets, context)

    @classmethod
    def of(cls, at: float, scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Self:
        """The cut on these scores ``(N,)`` with targets ``(N,)`` of 0 and 1, and the weights of the rows."""
        cuts, precision, recall = _curve(scores, targets, weight)
        reached = precision >= at
        order = torch.where(reached, recall, -torch.inf) if bool(reached.any()) else precision
        return cls(at, float(cuts[int(order.argmax())]))


class AtRecall(_OperatingPoint):
    """The cut of largest precision among those whose recall on the validation data is at least ``at``.

    Args:
        at: the recall, in (0, 1].
        threshold: the cut, on the logit scale.
    """

    kind: ClassVar[str] = "at_recall"

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """At the metric's own ``recall``."""
        return cls._of_metric(float(metric.fixed.get("recall", 0.9)), metric, scores, targets, context)

    @classmethod
    def of(cls, at: float, scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Self:
        """The cut on these scores ``(N,)`` with targets ``(N,)`` of 0 and 1, and the weights of the rows."""
        cuts, precision, recall = _curve(scores, targets, weight)
        return cls(at, float(cuts[int(torch.where(recall >= at, precision, -torch.inf).argmax())]))


def yes_of(metric: Metric, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the yes, and 1 for targets that are one."""
    scores, targets, _ = replace(metric.class_targets, ignore_index=None).read(scores, targets, {})
    return scores, targets


def precision_and_recall(decided: Tensor, targets: Tensor, weight: Tensor | None = None) -> tuple[float, float]:
    """Of the entries above 0, each as much as it weighs; 0 where there is nothing to divide by."""
    weight = _weight(decided, weight)
    positive, true = weight[decided > 0].sum(), weight[targets > 0].sum()
    hit = float(weight[(decided > 0) & (targets > 0)].sum())
    return hit / max(float(positive), 1e-300), hit / max(float(true), 1e-300)


def _weight(scores: Tensor, weight: Tensor | None) -> Tensor:
    return wide(torch.ones_like(scores) if weight is None else weight)


def _curve(scores: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts between neighbouring distinct scores, from the highest on, and precision and recall above each."""
    if scores.shape != targets.shape or scores.ndim != 1:
        raise MetricgradError(
            f"an operating point needs scores and targets (N,), got {tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    if not bool((targets[_weight(scores, weight) > 0] > 0).any()):
        raise MetricgradError("an operating point needs positives among the targets; this validation part has none")
    ordered, index = wide(scores).sort(descending=True)
    weight = _weight(scores, weight)[index]
    hits, count = (weight * (targets[index] > 0)).cumsum(0), weight.cumsum(0).clamp(min=torch.finfo(weight.dtype).tiny)
    last = torch.cat([ordered[:-1] > ordered[1:], ordered.new_ones(1, dtype=torch.bool)])
    below = torch.cat([ordered[1:], ordered[-1:] - 1])
    return ((ordered + below) / 2)[last], (hits / count)[last], (hits / hits[-1])[last]
