"""The decision of largest expected utility under the model's own probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision, Reading, columns
from metricgrad.decisions.labels import utilities
from metricgrad.decisions.rows import kept_rows
from metricgrad.decisions.temperature import inverse_temperature
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.utilities import values_of_labels
from metricgrad.precision import wide, wide_dtype

_ROUNDS = 8
_FOREIGN_ROUNDS = 3


class PlugIn(Decision):
    r"""Decide class :math:`\arg\max_b \sum_y p_y V_{yb}`, with :math:`V_{yb}` what deciding b is worth where y is true.

    For any metric that is a function of the confusion table, quadratic kappa and macro-F1 among them: at its optimum
    such a metric is maximised by the decision of largest expected utility for some V, namely its own derivative. It
    stands on calibrated probabilities, so a temperature is fitted first.

    Args:
        utilities: ``(C, C)`` rows of targets, columns of decisions.
        beta: inverse temperature.

    References:
        Narasimhan et al., "Consistent multiclass algorithms for complex performance measures", ICML 2015.
    """

    kind: ClassVar[str] = "plug_in"
    reading: Reading = "argmax"
    utilities: Tensor

    def __init__(self, utilities: Sequence[Sequence[float]], beta: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("utilities", torch.as_tensor(utilities, dtype=torch.float64))
        self.beta = beta

    def forward(self, scores: Tensor) -> Tensor:
        """``(N, C)`` expected utilities above the mean of their row."""
        columns(scores, len(self.utilities), self.kind)
        p = (self.beta * wide(scores)).softmax(-1)
        expected = p @ self.utilities.to(p)
        return (expected - expected.mean(-1, keepdim=True)).to(scores)

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """Alternate between deciding by V and taking V as the metric's slopes at what was decided, averaged.

        Cost: eight rounds of one derivative of a built-in metric, or three of C (C + 1) calls of a foreign one.
        """
        scores, targets, context = kept_rows(scores, targets, context)
        classes = scores.shape[1]
        beta = inverse_temperature(scores, targets, context.get("sample_weight"))
        p = (beta * wide(scores)).softmax(1)
        sign = 1.0 if metric.higher_is_better else -1.0
        tried = current = torch.eye(classes, dtype=wide_dtype(scores.device), device=scores.device)
        best, value = current, -torch.inf
        for round_ in range(_ROUNDS if metric.batched else _FOREIGN_ROUNDS):
            labels = (p @ tried).argmax(1)
            found = sign * float(values_of_labels(metric, labels[None], targets, classes, **context)[0])
            if found > value:
                best, value = tried, found
            slopes = utilities(metric, labels, targets, classes, weight=context.get("sample_weight"))
            current = slopes if round_ == 0 else (current + slopes) / 2
            tried = current
        scale = (best.amax(1, keepdim=True) - best.amin(1, keepdim=True)).max().clamp(min=1e-12)
        return cls(((best - best.amin(1, keepdim=True)) / scale).tolist(), beta)

    def config(self) -> dict[str, Any]:
        """Utilities and inverse temperature."""
        return {"utilities": self.utilities.tolist(), "beta": self.beta}
