"""Whether a metric's direction is what its values say: the scores presumed ideal are not the worst of all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric

ROUNDING = 1e-5


def beats(metric: Metric, value: float, other: float) -> bool:
    """Whether one value is better than the other by more than rounding; a NaN neither is nor has a better."""
    return metric.is_better(value, other) and abs(value - other) > ROUNDING * max(abs(value), abs(other)) + 1e-12


def contradicted(metric: Metric, ideal: float, others: Sequence[float]) -> bool:
    """Whether some other values are better than that of the scores presumed to be ideal, and none is worse."""
    others = [value for value in others if math.isfinite(value)]
    better = math.isfinite(ideal) and any(beats(metric, value, ideal) for value in others)
    return better and not any(beats(metric, ideal, value) for value in others)


def refuse_wrong_direction(metric: Metric, ideal: float, others: Sequence[float]) -> None:
    """Refuse a direction in which no scores are worse than those that decide everything as the targets say.

    A metric that sees costs may prefer other decisions than the targets; as long as it likes some scores less than the
    ideal ones, its direction is believed.

    Args:
        metric: with the direction it was given.
        ideal: its value at ideal scores.
        others: its values at corrupted, random and reversed scores for the same targets.

    Raises:
        MetricgradError: naming ``higher_is_better`` and the values.
    """
    if not contradicted(metric, ideal, others):
        return
    others = [value for value in others if math.isfinite(value)]
    raise MetricgradError(
        f"metric {metric.name!r} was given higher_is_better={metric.higher_is_better}, but it is {ideal:.4g} where "
        f"every decision is as the targets say, and {min(others):.4g} to {max(others):.4g} for corrupted, random and "
        f"reversed scores, none of them worse: pass higher_is_better={not metric.higher_is_better}, or check reads= "
        "and order="
    )


@torch.no_grad()
def check_direction(metric: Metric, scores: Tensor, targets: Tensor) -> None:
    """Refuse a direction that a metric of users contradicts on these targets, before anything is chosen by it.

    Asked of metrics of labels and of probabilities that are not built in, on scores that say what the targets say, the
    same reversed, and moved to other rows. Where one of these cannot be scored, nothing is said.

    Cost: three calls of the metric.
    """
    if (metric.spec is not None and metric.batched) or metric.reads not in ("labels", "probabilities"):
        return
    if not metric.layout.of_decisions or targets.is_floating_point() or not targets.numel():
        return
    scores, targets = metric.class_targets.pairs(scores, targets)
    metric = metric.of_read_batches()
    if scores.ndim == targets.ndim + 1 and scores.shape[-1] > 1:
        ideal = 8 * torch.nn.functional.one_hot(targets.long(), scores.shape[-1]).to(scores) - 4
    else:
        ideal = (8 * targets.reshape(scores.shape) - 4).to(scores)
    moved = ideal[torch.randperm(len(ideal), generator=torch.Generator().manual_seed(0)).to(ideal.device)]
    try:
        best, *others = metric.over(torch.stack([ideal, -ideal, moved]), targets).tolist()
    except MetricgradError:
        return
    refuse_wrong_direction(metric, best, others)
