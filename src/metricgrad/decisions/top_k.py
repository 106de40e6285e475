"""The k likeliest labels of every row."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric

_MOST = 64


class TopK(Decision):
    """Of every row of ``(N, C)`` multilabel scores the k highest are positive, however low they are.

    For rankings shown to people and for tags of a fixed number; where the number of labels of a row varies widely, a
    :class:`Threshold` serves better.

    Args:
        k: how many, 1 or more; at most C count.
    """

    kind: ClassVar[str] = "top_k"

    def __init__(self, k: int) -> None:
        super().__init__()
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise MetricgradError(f"k is {k!r}; expected how many labels a row gets, 1 or more")
        self.k = k

    def forward(self, scores: Tensor) -> Tensor:
        """By how many places each score stands above the cut of its row."""
        if scores.ndim < 2:
            raise MetricgradError(f"decision 'top_k' reads scores (N, C), got shape {tuple(scores.shape)}")
        k = min(self.k, scores.shape[-1])
        order = scores.sort(dim=-1, descending=True, stable=True).indices
        rank = torch.empty_like(order).scatter(-1, order, torch.arange(scores.shape[-1]).to(order).expand_as(order))
        # by place, not by a cut between two scores: equal scores must not all pass or all fail
        return (k - 0.5 - rank).to(scores)  # half precision has not all whole numbers

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """The best k, up to 64; among equals the smallest."""
        tried = range(1, min(_MOST, scores.shape[1]) + 1)
        values = torch.stack([metric(cls(k)(scores), targets, **context) for k in tried])
        ordered = torch.nan_to_num(values if metric.higher_is_better else -values, nan=-torch.inf)
        return cls(int(ordered.argmax()) + 1)

    def config(self) -> dict[str, Any]:
        """k."""
        return {"k": self.k}
