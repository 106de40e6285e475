"""The metric-blind control: UniLoss's comparisons and softness, with the metric never called."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines.base import ClassLoss
from metricgrad.losses.batches import Rows, rows_of
from metricgrad.losses.registry import CLASSIFICATION, RETRIEVAL, SOFTNESS, SOFTNESS_OF_COSINES, Entry, register
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.neighbours import Neighbours

Between = Literal["items", "pairs", "neighbours"]


class Margin(ClassLoss):
    r"""The mean sigmoid of the comparisons decided the wrong way: :math:`\frac1l\sum_i \sigma(-c_i/\tau)`.

    The comparisons c are those a metric could depend on (UniLoss, Eq. 5 to 9), all weighing the same. A loss that says
    it trains on a metric must beat this one on that metric. Not meant for training.

    Args:
        softness: :math:`\tau`, above 0, in units of the scores.
        between: for scores shaped like their targets: ``"items"`` compares each score with 0 (metrics of labels),
            ``"pairs"`` each positive with each negative of a batch (metrics of a ranking). Rows of (N, C) scores with
            (N,) targets are always compared within the row, as scores of classes, except that ``"neighbours"`` takes
            them for embeddings and compares, in each row of their cosines, its own class with the others.

    Cost: O(N C), or O(positives x negatives) time and memory for pairs.

    Example:
        >>> import torch
        >>> float(Margin()(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])))
        0.5
    """

    def __init__(self, softness: float = 1.0, between: Between = "items") -> None:
        super().__init__()
        if between not in ("items", "pairs", "neighbours"):
            raise MetricgradError(f"between is {between!r}; expected 'items', 'pairs' or 'neighbours'")
        if not softness > 0:
            raise MetricgradError(f"softness must be above 0, got {softness!r}")
        self.softness, self.between = softness, between

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d; 0 where a batch has no comparison to make.

        Args:
            scores: logits, any shape of :mod:`metricgrad.metrics.metric`.
            targets: classes, or above 0 for positives.
            context: ``mask``; ``sample_weight``, except between neighbours: a comparison counts as often as the rows it
                is of.
        """
        takes = () if self.between == "neighbours" else ("sample_weight",)
        scores, targets, context = self.read(scores, targets, context)
        rows = rows_of(scores, targets, context, takes=takes, who=f"Margin(between={self.between!r})")
        comparisons, weights = self._comparisons(rows)
        if not comparisons.numel():
            return rows.scores.sum() * 0
        each = torch.sigmoid(-comparisons / self.softness)
        value = each.mean() if rows.weight is None else (each * (weights / weights.sum())).sum()
        return value

    def _comparisons(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Above 0 where decided the right way, and how often each counts."""
        scores, targets, weights = rows.scores, rows.targets, rows.weights
        if self.between == "neighbours":
            found = Neighbours().comparisons(scores, targets).to(scores.dtype)
            return found, torch.ones_like(found)
        if not rows.elementwise:
            right = targets.long()[:, None]
            if right.numel() and not 0 <= int(right.min()) <= int(right.max()) < scores.shape[1]:
                raise MetricgradError(
                    f"targets hold classes {int(right.min())} to {int(right.max())}, scores have {scores.shape[1]} "
                    "columns; leave padding out with mask="
                )
            others = torch.ones_like(scores, dtype=torch.bool).scatter(1, right, False)
            return (scores.gather(1, right) - scores)[others], weights[:, None].expand(scores.shape)[others]
        positive = targets > 0
        if self.between == "items":
            return torch.where(positive, scores, -scores), weights
        sides = [(scores[side], weights[side]) for side in (positive & (weights > 0), ~positive & (weights > 0))]
        (high, of_high), (low, of_low) = sides
        if not len(high) or not len(low):
            return scores[:0].reshape(-1), weights[:0].reshape(-1)
        # each side by its own largest: a product of two weights must not leave the floats
        return high[:, None] - low, (of_high / of_high.amax())[:, None] * (of_low / of_low.amax())

    def extra_repr(self) -> str:
        """Its settings."""
        return f"softness={self.softness:g}, between={self.between!r}"


def _comparisons_of(metric: Metric) -> dict[str, Any]:
    return {"between": {"labels": "items", "embeddings": "neighbours"}.get(metric.reads, "pairs")}


register(
    "margin",
    Entry(
        Margin,
        CLASSIFICATION | RETRIEVAL,
        "uniloss that never calls the metric: the mean sigmoid margin",
        role="control",
        space={"softness": SOFTNESS},
        of_embeddings={"softness": SOFTNESS_OF_COSINES},
        from_metric=_comparisons_of,
    ),
)
