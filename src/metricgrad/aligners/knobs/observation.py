"""One look at validation scores, and what a policy sees of a child at the end of a period."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.aligners.knobs.evaluation import judged
from metricgrad.aligners.knobs.schedule import PERIODS
from metricgrad.aligners.knobs.state import Child, coded
from metricgrad.losses.base import Form, Knob
from metricgrad.metrics.metric import Metric

WRITTEN = ("metric", "loss", "confusion", "largest_metric", "largest_loss", "looks", "looked", "train")
"""What a look writes into a child's memory."""


@dataclass(frozen=True)
class Seen:
    """One child at the end of a period: its form and its memory, the improvement, and how far training is."""

    form: Form
    knobs: Mapping[str, Knob]
    child: Child
    improvement: float | None
    progress: float


@dataclass(frozen=True)
class LookSettings:
    """How looks are measured, and put together at the end of a period.

    Attributes:
        metric: what scores are judged by.
        best: whether at the threshold that is best on them, where the metric reads labels.
        looks: in a period.
        discount: of a look against the next.
    """

    metric: Metric
    best: bool
    looks: int
    discount: float


def look(
    how: LookSettings,
    child: Child,
    form: Form,
    scores: Tensor,
    targets: Tensor,
    progress: float | None,
    *,
    periods: int,
    batch: int,
) -> tuple[float, Seen | None]:
    """Measure once: the value, and at the end of a period what was seen in it.

    Args:
        how: it is measured.
        child: whose memory the look goes into. A metric that is undefined says nothing: the last value goes in.
        form: of the child.
        scores: on validation data.
        targets: theirs.
        progress: the share of training done, where known.
        periods: that have ended.
        batch: rows of a training batch.
    """
    value = measured = judged(how.metric, scores, targets, best=how.best)
    memory = child.memory
    if math.isnan(value):
        if "metric" not in memory:
            return measured, None
        value = float(memory["metric"][-1])
    memory.push("looks", torch.tensor([value], dtype=torch.float64), how.looks)
    memory["looked"] = (memory["looked"] if "looked" in memory else torch.zeros((), dtype=torch.long)) + 1
    if int(memory["looked"]) % how.looks:
        return measured, None
    values = memory["looks"]
    weights = how.discount ** torch.arange(len(values) - 1, -1, -1, dtype=torch.float64)
    mean = float((weights * values).sum() / weights.sum())
    sign = 1.0 if how.metric.higher_is_better else -1.0
    improvement = sign * (mean - float(memory["metric"][-1])) if "metric" in memory else None
    knobs = form.knobs()
    child.remember(form, list(knobs.values()), scores, targets, mean, batch=batch)
    train = child.recent.measure(how.metric, len(scores), best=how.best)
    memory["train"] = torch.tensor(train, dtype=torch.float64)
    # without a known end, a share that grows more and more slowly
    share = periods / (periods + PERIODS) if progress is None else float(progress)
    return measured, Seen(form, knobs, child, improvement, share)


def encoded(seen: Seen, *, scaled: bool) -> Tensor:
    """The states of a child's knobs with their roles, as the policy reads them."""
    states = seen.child.state(list(seen.knobs.values()), seen.progress, scaled=scaled)
    return torch.cat([states, coded(list(seen.knobs))], 1)
