"""One evaluation of validation scores, and what a policy sees of a child at the end of a period."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.aligners.knobs.evaluation import judged
from metricgrad.aligners.knobs.schedule import PERIODS
from metricgrad.aligners.knobs.settings import KnobSettings
from metricgrad.aligners.knobs.state import Child, coded
from metricgrad.losses.base import Form, Knob
from metricgrad.metrics.metric import Metric


class Scored(NamedTuple):
    """A child's scores of validation rows, and their targets."""

    child: Child
    form: Form
    scores: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Observation:
    """One child at the end of a period: its form and its memory, the improvement, and how far training is."""

    form: Form
    knobs: Mapping[str, Knob]
    child: Child
    improvement: float | None
    progress: float


def observed(
    scored: Scored, metric: Metric, settings: KnobSettings, progress: float | None, *, periods: int, batch: int
) -> tuple[float, Observation | None]:
    """Evaluate once: the value, and at the end of a period what was observed in it.

    Args:
        scored: a child, into whose memory it goes. A metric that is undefined says nothing: the last value goes in.
        metric: what scores are judged by.
        settings: how many evaluations a period has, how they are discounted, and at which threshold they are made.
        progress: the share of training done, where known.
        periods: that have ended.
        batch: rows of a training batch.
    """
    child, form, scores, targets = scored
    best = settings.threshold == "best"
    value = measured = judged(metric, scores, targets, best=best)
    memory = child.memory
    if math.isnan(value):
        if "metric" not in memory:
            return measured, None
        value = float(memory["metric"][-1])
    memory.push("evaluations", torch.tensor([value], dtype=torch.float64), settings.evaluations)
    memory["evaluated"] = (memory["evaluated"] if "evaluated" in memory else torch.zeros((), dtype=torch.long)) + 1
    if int(memory["evaluated"]) % settings.evaluations:
        return measured, None
    values = memory["evaluations"]
    weights = settings.discount ** torch.arange(len(values) - 1, -1, -1, dtype=torch.float64)
    mean = float((weights * values).sum() / weights.sum())
    sign = 1.0 if metric.higher_is_better else -1.0
    improvement = sign * (mean - float(memory["metric"][-1])) if "metric" in memory else None
    knobs = form.knobs()
    child.remember(form, list(knobs.values()), scores, targets, mean, batch=batch)
    train = child.train_batches.measure(metric, len(scores), best=best)
    memory["train"] = torch.tensor(train, dtype=torch.float64)
    # without a known end, a share that grows more and more slowly
    share = periods / (periods + PERIODS) if progress is None else float(progress)
    return measured, Observation(form, knobs, child, improvement, share)


def encoded(seen: Observation, *, scaled: bool) -> Tensor:
    """The states of a child's knobs with their roles, as the policy reads them."""
    states = seen.child.state(list(seen.knobs.values()), seen.progress, scaled=scaled)
    return torch.cat([states, coded(list(seen.knobs))], 1)
