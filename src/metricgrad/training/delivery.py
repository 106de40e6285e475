"""Under which decision a run is delivered, and by which value its epochs are compared."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from metricgrad.decisions.base import Decision, Findings
from metricgrad.decisions.cross_fitting import FOLDS
from metricgrad.decisions.fit import check_method, fit_decision, no_decision_for
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.kinds import DECISIONS
from metricgrad.decisions.rows import Context, ValidationRows, of_rows
from metricgrad.decisions.threshold import Threshold, choose_threshold, needs_threshold
from metricgrad.errors import MetricgradError
from metricgrad.metrics.layouts.class_targets import axis_of
from metricgrad.metrics.metric import Metric
from metricgrad.training.outputs import Output

Asked = str | Decision
"""``"auto"``, ``"none"``, a kind of :data:`metricgrad.decisions.DECISIONS`, or a decision that was made before."""


@dataclass(frozen=True)
class Delivery:
    """What was asked for as the decision of a run.

    Attributes:
        metric: what judges.
        asked: see :data:`Asked`.
        seed: of the parts that candidates are compared over.
        context: of the validation rows that are judged here, as their ``sample_weight``.

    Raises:
        MetricgradError: for anything else.
    """

    metric: Metric
    asked: Asked
    seed: int = 0
    context: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_decision(self.asked)

    @property
    def needs_scores(self) -> bool:
        """Whether the decision depends on validation scores, or is to be judged on them."""
        return self.asked != "none" and not (self.asked == "auto" and no_decision_for(self.metric))

    def value_of_epoch(self, scores: Tensor, targets: Tensor) -> float:
        """What the epochs of a run are compared by.

        Where one threshold will be fitted, the value at the best one for these scores: at a cut that is not theirs
        rare positives are never found in any epoch, and all are alike. That flatters all epochs by about as much. A
        decision that was given is applied; else the plain reading is judged, whose order of epochs is that of decided
        scores nearly always, at a hundredth of the cost.

        Raises:
            MetricgradError: where the decision does not serve scores of this shape.
        """
        self.metric.look_at(scores, targets, stacklevel=3)
        context = {name: value.to(scores.device) for name, value in self.context.items()}
        if isinstance(self.asked, Decision):
            return float(self.metric(self._given(self.asked, scores, targets)(scores), targets, **context))
        if self.asked not in ("auto", "none"):
            check_method(self.asked, scores, targets)
        if self.asked in ("auto", Threshold.kind) and needs_threshold(self.metric, scores, targets):
            return choose_threshold(self.metric, scores, targets, None, **context)[1]
        return float(self.metric(scores, targets, **context))

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value of an epoch is better than another; NaN is never, and anything is better than NaN."""
        return not math.isnan(value) and (math.isnan(than) or self.metric.is_better(value, than))

    def compares_plainly(self, scores: Tensor, targets: Tensor) -> bool:
        """Whether epochs are compared as their scores are read plainly."""
        return self.asked not in ("auto", Threshold.kind) or not needs_threshold(self.metric, scores, targets)

    def plain_value(self, scores: Tensor, targets: Tensor, rows: Tensor | None = None) -> float:
        """The value of some rows, or of all, as their scores are read plainly."""
        context: Context = {name: value.to(scores.device) for name, value in self.context.items()}
        if rows is not None:
            scores, targets, context = scores[rows], targets[rows], of_rows(context, rows)
        return float(self.metric(scores, targets, **context))

    def folds(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` which fifth of the validation rows each is in."""
        return ValidationRows(scores, targets, {}, -1).folds(self.seed) % FOLDS

    def decided(self, scores: Tensor, targets: Tensor) -> Decision:
        """The decision that these validation scores ask for, with what was found.

        Args:
            scores: of the weights that are delivered, on the CPU.
            targets: theirs.
        """
        if not isinstance(self.asked, Decision):
            method = Identity.kind if self.asked == "none" else self.asked
            return fit_decision(self.metric, scores, targets, method=method, seed=self.seed, **self.context)
        decision = self._given(self.asked, scores, targets)
        judged = decision.judge(self.metric, scores, targets, **self.context)
        name = self.metric.name
        decision.findings = Findings(
            f"{decision.kind}, as given; {name} of {len(targets)} validation rows {judged.decided:.4f}, without it "
            f"{judged.undecided:.4f}", *judged,
        )  # fmt: skip
        return decision

    def _given(self, asked: Decision, scores: Tensor, targets: Tensor) -> Decision:
        """A copy of a decision that was made before, where these scores are and on the axis of their classes."""
        decision = copy.deepcopy(asked).to(scores.device)
        decision.class_dim = axis_of(scores.shape, targets.shape, self.metric.class_targets.class_dim)
        return decision

    def undecided(self, output: Output) -> Decision:
        """No decision, where :attr:`needs_scores` says that there is nothing to look at."""
        of_classes = output in ("classes", "classes_first")
        reading = "argmax" if of_classes else "threshold" if output == "labels" else "value"
        plain = Identity(reading, 1 if output == "classes_first" else -1)
        why = "none was asked for" if self.asked == "none" else no_decision_for(self.metric)
        plain.findings = Findings(f"no decision: {why}")
        return plain


def check_decision(asked: object) -> None:
    """Refuse what is no :data:`Asked`."""
    known = ("auto", "none", *(kind for kind in DECISIONS if kind != Identity.kind))
    if isinstance(asked, Decision):
        if DECISIONS.get(asked.kind) is not type(asked):
            raise MetricgradError(
                f"decision is a {type(asked).__name__}, which no saved model could name; decorate its class with "
                "metricgrad.decisions.register"
            )
    elif asked not in known:
        raise MetricgradError(
            f"decision is {asked!r:.60}; expected {', '.join(map(repr, known))}, or one made by mg.fit_decision or "
            "mg.decisions"
        )


def describe_decision(asked: Asked) -> Any:
    """What a folder says of it, JSON-able."""
    return asked.described() if isinstance(asked, Decision) else asked
