"""A bonus for each class: rare classes, or those the metric pays for, win closer calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision, Reading, columns
from metricgrad.decisions.labels import quantiles
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.utilities import values_of_labels
from metricgrad.precision import wide

_PASSES = 3
_BUILT_IN, _FOREIGN = 64, 8


class Offsets(Decision):
    """One number for each class is added to the logits before the largest wins.

    For macro-F1, balanced accuracy, g-mean and the like on ``(N, C)`` scores of classes. Adding offsets to logits is
    weighting probabilities, so this is the decision of largest expected gain where each class has a price of its own.

    Args:
        offsets: C numbers on the logit scale; only their differences matter.
    """

    kind: ClassVar[str] = "offsets"
    reading: Reading = "argmax"
    offsets: Tensor

    def __init__(self, offsets: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.as_tensor(offsets, dtype=torch.float64))

    def forward(self, scores: Tensor) -> Tensor:
        """Scores plus the offsets."""
        return columns(scores, len(self.offsets), self.kind) + self.offsets.to(scores)

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """Coordinate ascent from 0: the offset of one class at a time, over quantiles of where rows change over.

        Cost: at most three passes over the classes, fewer where none of them gains anything more; 65 values of a
        built-in metric or 9 calls of a foreign one each.
        """
        z = wide(scores)
        offsets = z.new_zeros(z.shape[1])
        sign = 1.0 if metric.higher_is_better else -1.0
        count = _BUILT_IN if metric.batched else _FOREIGN
        best, still = -torch.inf, 0
        for turn in range(_PASSES * len(offsets)):
            c = turn % len(offsets)
            others = (z + offsets).index_fill(1, torch.tensor([c], device=z.device), -torch.inf)
            top, rival = others.max(1)
            needed = top - z[:, c]  # the offset above which each row goes to class c
            tried = torch.cat([offsets[c : c + 1], quantiles(needed, count)])
            labels = torch.where(tried[:, None] > needed, c, rival)
            values = sign * values_of_labels(metric, labels, targets, z.shape[1], **context)
            values = torch.nan_to_num(values, nan=-torch.inf)
            at = int(values.argmax())
            still += 1
            if float(values[at]) > best:
                offsets[c], best, still = tried[at], float(values[at]), 0
            if still == len(offsets) - 1:  # every other class was tried beside these offsets
                break
        return cls((offsets - offsets.mean()).tolist())

    def config(self) -> dict[str, Any]:
        """The offsets."""
        return {"offsets": self.offsets.tolist()}
