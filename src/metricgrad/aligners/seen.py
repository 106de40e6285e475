"""One look at validation scores, and what a policy sees of a child at the end of a period."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metricgrad.aligners.looking import judged
from metricgrad.aligners.policy_state import Child, coded
from metricgrad.losses.form import Form, Knob

if TYPE_CHECKING:
    from metricgrad.aligners.turning import KnobTurner

PERIODS = 100
"""Periods in a training whose length is known, where it is long enough for so many."""

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


def look(
    turner: KnobTurner,
    child: Child,
    form: Form,
    scores: Tensor,
    targets: Tensor,
    progress: float | None,
    periods: int,
) -> Seen | None:
    """Measure once; at the end of a period, what was seen in it. A metric that is undefined says nothing."""
    best = turner.threshold == "best"
    value = judged(turner.metric, scores, targets, best=best)
    turner.heard(value)
    memory = child.memory
    if math.isnan(value):
        if "metric" not in memory:
            return None
        value = float(memory["metric"][-1])
    memory.push("looks", torch.tensor([value], dtype=torch.float64), turner.looks)
    memory["looked"] = (memory["looked"] if "looked" in memory else torch.zeros((), dtype=torch.long)) + 1
    if int(memory["looked"]) % turner.looks:
        return None
    values = memory["looks"]
    weights = turner.discount ** torch.arange(len(values) - 1, -1, -1, dtype=torch.float64)
    mean = float((weights * values).sum() / weights.sum())
    sign = 1.0 if turner.metric.higher_is_better else -1.0
    improvement = sign * (mean - float(memory["metric"][-1])) if "metric" in memory else None
    knobs = form.knobs()
    child.remember(form, list(knobs.values()), scores, targets, mean, batch=turner.batch)
    train = child.recent.measure(turner.metric, len(scores), best=best)
    memory["train"] = torch.tensor(train, dtype=torch.float64)
    # without a known end, a share that grows more and more slowly
    share = periods / (periods + PERIODS) if progress is None else float(progress)
    return Seen(form, knobs, child, improvement, share)


def encoded(seen: Seen, *, scaled: bool) -> Tensor:
    """The states of a child's knobs with their roles, as the policy reads them."""
    states = seen.child.state(list(seen.knobs.values()), seen.progress, scaled=scaled)
    return torch.cat([states, coded(list(seen.knobs))], 1)
