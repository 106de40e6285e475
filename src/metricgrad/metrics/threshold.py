"""The decision threshold of a binary problem, chosen on validation data for every loss alike.

A threshold ``th`` lives on the logit scale: an item is positive where ``score > th``, and the metric at ``th`` is
``metric(scores - th, targets)``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metricgrad.metrics.decoding import canonical
from metricgrad.metrics.metric import Metric

CANDIDATES = 256
CANDIDATES_FOREIGN = 64


def needs_threshold(metric: Metric, scores: Tensor, targets: Tensor) -> bool:
    """Whether a threshold means anything: the metric reads labels and there is one score for each item."""
    if metric.reads != "labels":
        return False
    scores, targets = canonical(scores, targets)
    return scores.shape == targets.shape and scores.ndim == 1


def at_threshold(metric: Metric, scores: Tensor, targets: Tensor, threshold: float | None) -> float:
    """The metric of ``scores - threshold``; no threshold is a threshold of 0."""
    return float(metric(scores - threshold if threshold else scores, targets))


def judged_at(
    metric: Metric, scores: Tensor, targets: Tensor, threshold: Literal["auto"] | float | None
) -> tuple[float | None, float]:
    """The threshold an epoch is judged at, and the metric there.

    Args:
        metric: what judges.
        scores: raw.
        targets: as the metric takes them.
        threshold: a number or None as it is; ``"auto"`` for the best one, where one means anything.
    """
    metric.look_at(scores, targets, stacklevel=3)
    if threshold == "auto" and needs_threshold(metric, scores, targets):
        return choose_threshold(metric, scores, targets)
    fixed = None if isinstance(threshold, str) else threshold
    return fixed, at_threshold(metric, scores, targets, fixed)


def candidates(scores: Tensor, count: int) -> Tensor:
    """0 and at most ``count`` midpoints between neighbouring distinct scores, nearest to 0 first."""
    distinct = scores.unique()
    middle = (distinct[1:] + distinct[:-1]) / 2
    if len(middle) > count:
        middle = middle[torch.linspace(0, len(middle) - 1, count, device=middle.device).round().long()]
    found = torch.cat([middle.new_zeros(1), middle])
    return found[found.abs().argsort(stable=True)]


def choose_threshold(
    metric: Metric, scores: Tensor, targets: Tensor, count: int | None = None, **context: Tensor | None
) -> tuple[float, float]:
    """The threshold with the best metric value; among equals the one nearest to 0.

    Cost: at most 257 values of a built-in metric in one batched call, 65 calls of a foreign one.

    Args:
        metric: one that reads labels.
        scores: ``(N,)`` or ``(N, 1)`` logits, or entries of any shape under one threshold.
        targets: shaped like the scores.
        count: how many candidates beside 0; 256, or 64 for a foreign metric, by default.
        context: what the metric takes beside.

    Returns:
        The threshold, and the metric there (NaN where the metric is undefined at every threshold).
    """
    if scores.shape != targets.shape:
        scores, targets = canonical(scores, targets)
    tried = candidates(scores, count or (CANDIDATES if metric.batched else CANDIDATES_FOREIGN))
    values = metric.over(scores - tried.reshape(-1, *[1] * scores.ndim), targets, **context)
    ordered = torch.nan_to_num(values if metric.higher_is_better else -values, nan=-torch.inf)
    best = int(ordered.argmax())
    return float(tried[best]), float(values[best])
