"""Cuts on one scale for classes that are grades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision, Reading, columns
from metricgrad.decisions.labels import quantiles
from metricgrad.decisions.rows import kept_rows
from metricgrad.decisions.temperature import inverse_temperature
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.utilities import values_of_labels
from metricgrad.precision import wide

_PASSES = 4
_BUILT_IN, _FOREIGN = 32, 8


class OrdinalCuts(Decision):
    """A row's expected grade, cut into grades: for quadratic kappa and other metrics that weigh how far a miss is.

    The expected grade is :math:`e = \\sum_c c \\, p_c` with :math:`p` the softmax of the scores times ``beta``; grade c
    is decided between the cuts c - 1 and c.

    Args:
        cuts: C - 1 ascending numbers in the unit of grades.
        beta: inverse temperature of the probabilities.
    """

    kind: ClassVar[str] = "ordinal_cuts"
    reading: Reading = "argmax"
    cuts: Tensor

    def __init__(self, cuts: Sequence[float], beta: float = 1.0) -> None:
        super().__init__()
        found = torch.as_tensor(cuts, dtype=torch.float64)
        if found.ndim != 1 or not bool((found[1:] >= found[:-1]).all()):
            raise MetricgradError(f"cuts are {list(cuts)!r}; expected ascending numbers, one fewer than grades")
        self.register_buffer("cuts", found)
        self.beta = beta

    def forward(self, scores: Tensor) -> Tensor:
        """``(N, C)``: how far inside each grade's interval the row's expected grade is; positive in one only."""
        columns(scores, len(self.cuts) + 1, self.kind)
        grade = expected_grade(scores, self.beta)[..., None]
        ends = self.cuts.to(grade)
        low = torch.cat([ends.new_full((1,), -torch.inf), ends])
        high = torch.cat([ends, ends.new_full((1,), torch.inf)])
        inside = torch.minimum(grade - low, high - grade)
        return torch.where(high > low, inside, -torch.inf).clamp(min=torch.finfo(scores.dtype).min).to(scores)

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """Coordinate ascent over the cuts, from half-way between grades or from the targets' shares."""
        scores, targets, context = kept_rows(scores, targets, context)
        classes = scores.shape[1]
        beta = inverse_temperature(scores, targets, context.get("sample_weight"))
        grade = expected_grade(scores, beta)
        sign = 1.0 if metric.higher_is_better else -1.0

        def value(cuts: Tensor) -> Tensor:
            labels = torch.stack([torch.bucketize(grade, row) for row in cuts])
            found = sign * values_of_labels(metric, labels, targets, classes, **context)
            return torch.nan_to_num(found, nan=-torch.inf)

        shares = (wide(torch.bincount(targets, minlength=classes)).cumsum(0) / len(targets))[:-1]
        starts = torch.stack([torch.arange(classes - 1).to(grade) + 0.5, grade.quantile(shares.clamp(0, 1))])
        values = value(starts)
        cuts, best = starts[int(values.argmax())].clone(), float(values.max())
        count = _BUILT_IN if metric.batched else _FOREIGN
        for _ in range(_PASSES):
            before = cuts.clone()
            for k in range(len(cuts)):
                low = cuts[k - 1] if k else -torch.inf
                high = cuts[k + 1] if k + 1 < len(cuts) else torch.inf
                tried = quantiles(grade[(grade > low) & (grade < high)], count)
                if not len(tried):
                    continue
                moved = cuts.expand(len(tried), -1).clone()
                moved[:, k] = tried
                values = value(moved)
                at = int(values.argmax())
                if float(values[at]) > best:
                    cuts, best = moved[at], float(values[at])
            if torch.equal(before, cuts):
                break
        return cls(cuts.tolist(), beta)

    def config(self) -> dict[str, Any]:
        """Cuts and inverse temperature."""
        return {"cuts": self.cuts.tolist(), "beta": self.beta}


def expected_grade(scores: Tensor, beta: float) -> Tensor:
    """``(N,)`` float64 mean of the grades under the softmax of ``beta`` times the scores."""
    p = (beta * wide(scores)).softmax(-1)
    return (p * torch.arange(scores.shape[-1], device=scores.device)).sum(-1)
