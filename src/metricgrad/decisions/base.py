"""What a decision is: the third axis of the grid, from raw scores to what is delivered.

A model trained on any loss gives scores; a metric of labels reads only on which side of 0 they are, or which class is
on top. Which cut is best follows from the metric and from validation data, for every loss alike, and on many metrics it
is worth more than any loss. A decision is a small module ``scores -> scores`` after which the plain reading (sign,
argmax, order) is the chosen one, so ``metric(decision(scores), targets)`` is the value delivered.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

from torch import Tensor

from metricgrad.abstract import Abstract
from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.metrics.layouts.class_targets import ClassDim
from metricgrad.metrics.metric import Metric
from metricgrad.precision import FullPrecision

Reading = Literal["threshold", "argmax", "value"]


@dataclass(frozen=True)
class Findings:
    """What was found of a decision when it was fitted.

    Attributes:
        words: the candidates, their values, and why this one.
        decided: the metric under the decision, on rows it was not fitted on; None where nothing was measured.
        undecided: the metric of the plain reading of the same rows.
    """

    words: str
    decided: float | None = None
    undecided: float | None = None


class Judged(NamedTuple):
    """A metric's value with the decision and without."""

    decided: float
    undecided: float


class Decision(FullPrecision, Abstract):
    """Abstract: maps scores to scores of the same shape; its state is in buffers, so ``.to(device)`` moves it.

    Fitted by :func:`metricgrad.fit_decision`, or by the class method ``fit`` alone, which takes no guard against a
    decision that pays on the validation data only.
    """

    #: Written into a saved model.
    kind: ClassVar[str]

    #: How decided scores are read: the side of 0 of every entry, the class on top of every row, or the value itself.
    reading: Reading = "threshold"

    #: The axis of the classes in scores of more than two axes; where it is 1, :meth:`forward` gets them last.
    class_dim: ClassDim = -1

    #: What :func:`metricgrad.fit_decision` found.
    findings: Findings = Findings("made by hand: nothing was compared")

    def __call__(self, scores: Tensor) -> Tensor:
        """:meth:`forward` of scores with the classes where they were when it was fitted.

        Raises:
            MetricgradError: for what is no tensor, such as a NumPy array.
        """
        check_tensor("scores", scores)
        if self.class_dim == -1 or scores.ndim < 3:
            return super().__call__(scores)
        return super().__call__(scores.movedim(self.class_dim, -1)).movedim(-1, self.class_dim)

    @abc.abstractmethod
    def forward(self, scores: Tensor) -> Tensor:
        """Scores of the same shape and dtype, classes last, to be read plainly."""

    @classmethod
    @abc.abstractmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """The decision of this kind with the best value of ``metric`` on these scores."""

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able keyword arguments that build this decision again; see :func:`metricgrad.decisions.build`."""

    def described(self) -> dict[str, Any]:
        """Its kind and its configuration, JSON-able, and the axis of the classes where they are not last."""
        axis = {} if self.class_dim == -1 else {"class_dim": self.class_dim}
        return {"kind": self.kind, "config": self.config(), **axis}

    def judge(self, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Judged:
        """The metric of the decided scores and of the scores as they are; one call where they are the same.

        Args:
            metric: what judges.
            scores: raw logits.
            targets: as the metric takes them.
            context: what the metric takes beside.
        """
        undecided = float(metric(scores, targets, **context))
        decided = undecided if self.kind == "identity" else float(metric(self(scores), targets, **context))
        return Judged(decided, undecided)

    def predict(self, scores: Tensor) -> Tensor:
        """Labels: 0 or 1 of every entry, or the class of every row; the values themselves where nothing is decided.

        Args:
            scores: raw logits, ``(N,)``, ``(N, C)`` or any shape the decision was fitted on.

        Returns:
            int64 ``(N,)`` or ``(N, C)``; the decided scores where ``reading`` is ``"value"``.
        """
        decided = self(scores)
        if self.reading == "value":
            return decided
        return decided.argmax(self.class_dim) if self.reading == "argmax" else (decided > 0).long()

    def report(self) -> str:
        """How this decision was chosen: the candidates, their cross-validated values, and why this one."""
        return self.findings.words

    def extra_repr(self) -> str:
        """The configuration, numbers rounded."""
        return ", ".join(f"{name}={_short(value)}" for name, value in self.config().items())


def columns(scores: Tensor, count: int, kind: str) -> Tensor:
    """The scores, if their last axis has ``count`` columns.

    Raises:
        MetricgradError: naming the decision and both numbers.
    """
    if scores.ndim == 0 or scores.shape[-1] != count:
        raise MetricgradError(
            f"decision {kind!r} was fitted on scores of {count} columns, got shape {tuple(scores.shape)}; "
            "pass scores of the model it was fitted for"
        )
    return scores


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        inside = ", ".join(_short(v) for v in value[:8])
        return f"[{inside}{', …' if len(value) > 8 else ''}]"
    return repr(value)
