"""One batch, checked and in canonical shapes: the only place where a loss looks at raw input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from metricgrad.checks import check_tensor, where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.metric import Metric
from metricgrad.metrics.context_checks import PARTS
from metricgrad.metrics.decoding import is_binary


@dataclass(frozen=True)
class Batch:
    """Scores (float32 or float64, with graph), targets, and the context that survived the mask."""

    scores: Tensor
    targets: Tensor
    context: dict[str, Tensor]

    @property
    def groups(self) -> Tensor | None:
        """Query number of each item, or the row or column it came from where those are lists by themselves."""
        return self.context.get("groups", self.context.get(PARTS))


def checked(
    metric: Metric, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, check_finite: bool
) -> Batch:
    """Check one batch and bring it to canonical shapes.

    Half precision is computed in float32.

    Raises:
        MetricgradError: for scores that are no floating tensor or not finite, labels out of range, or shapes that do
            not fit; the message names the argument and the remedy.
    """
    check_tensor("scores", scores)
    check_tensor("targets", targets)
    if not scores.is_floating_point():
        raise MetricgradError(f"scores must be a floating tensor of logits, got {scores.dtype}")
    stack, targets, kept = metric.prepared(scores[None] if scores.ndim else scores, targets, context)
    if found := where_not_finite(targets):
        raise MetricgradError(f"targets hold {found}; leave such rows out with mask=")
    if metric.layout != "rows":
        return Batch(_finite(stack[0], check_finite), targets, kept)
    scores = stack[0]
    scores = _finite(scores, check_finite)
    if metric.reads == "embeddings":
        _check_embeddings(metric, scores, targets)
    elif scores.ndim > targets.ndim and targets.numel():
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= scores.shape[-1]:
            raise MetricgradError(
                f"targets hold classes {low} to {high}, scores have {scores.shape[-1]} columns; expected 0 to "
                f"{scores.shape[-1] - 1} (leave padding out with mask=)"
            )
    elif _is_binary(metric) and not is_binary(targets):
        raise MetricgradError(
            f"metric {metric.name!r} expects targets of 0 and 1 shaped like the scores, got values from "
            f"{float(targets.min()):g} to {float(targets.max()):g}"
        )
    return Batch(scores, targets, kept)


def _check_embeddings(metric: Metric, scores: Tensor, targets: Tensor) -> None:
    if scores.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
        raise MetricgradError(
            f"metric {metric.name!r} reads embeddings: expected scores (N, D), D of 2 or more, and integer class "
            f"numbers (N,), got {tuple(scores.shape)} and {targets.dtype} {tuple(targets.shape)}"
        )


def _finite(scores: Tensor, check: bool) -> Tensor:
    if check and (found := where_not_finite(scores)):
        raise MetricgradError(
            f"scores hold {found}; look at the inputs of those rows first; where they are finite, lower the learning "
            "rate (check_finite=False lets such scores through, for loss scaling in float16)"
        )
    return scores


def _is_binary(metric: Metric) -> bool:
    return metric.structure is not None and metric.structure.kind == "labels"
