"""UniLoss's form: the metric itself, interpolated over anchor configurations of its comparisons."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.functional.interpolation import local_linear
from metricgrad.losses.form import Draw, Form
from metricgrad.metric import Metric, canonical
from metricgrad.refactoring.registry import described


class Interpolated(Form):
    """The metric as a loss, whatever the metric."""

    def __init__(self, metric: Metric, *, softness: float = 1.0, budget: int = 1024) -> None:
        super().__init__()
        self.metric = metric
        self.softness = softness
        self.budget = budget

    def forward(self, scores: Tensor, targets: Tensor, *, draw: Draw, **context: Tensor | None) -> Tensor:
        """``|metric(ideal scores) - interpolated metric|``, 0-d."""
        scores, targets = canonical(scores, targets)
        refactoring = described(self.metric, scores, targets)
        generator = draw.generator()
        softness = torch.as_tensor(self.softness, dtype=scores.dtype)
        moves = refactoring.moves(scores, targets, softness=softness, budget=self.budget, generator=generator)
        ideal = refactoring.ideal(scores, targets, 1, generator)
        stack = torch.cat([scores.detach()[None], ideal, moves.anchors])
        current, best, values = self.metric.over(stack, targets).split([1, 1, len(moves.anchors)])
        value = local_linear(current[0], values, moves.mass)
        return best[0] - value if self.metric.higher_is_better else value - best[0]
