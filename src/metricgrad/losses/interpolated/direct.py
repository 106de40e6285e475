"""A metric that is differentiable as it is, used as the loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.ideal_check import IdealCheck
from metricgrad.metrics.decoding import is_binary, narrowed
from metricgrad.metrics.metric import Metric
from metricgrad.on_host import read
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.differentiable import ideal_scores
from metricgrad.value_range import ranges_of

_MILD = 4.0


def direct_value(metric: Metric, batch: Batch) -> Tensor:
    r"""0-d value of the metric with its gradient, which sure mistakes keep, in the dtype that it is found in.

    Where it reads probabilities, or is a function of ours to call with classes, a sigmoid or a softmax may saturate:
    beyond scores of :data:`metricgrad.functional.leak.START` the gradient is that of :math:`g(s) + \mathrm{LEAK} \, T
    \, g(s / T)`, with T such that the largest score over T is 4. The value is the metric's.
    """

    def at(scores: Tensor) -> Tensor:
        stack, targets = batch.as_called(scores[None])
        return metric.with_graph(stack[0], targets, **batch.context)

    value = at(batch.scores)
    low, high = ranges_of(batch.scores)[0]
    largest = max(-low, high)
    if not _may_saturate(metric, batch) or not largest > START:
        return value
    temperature = largest / _MILD
    mild = at(batch.scores / temperature)
    pull = LEAK * temperature * (mild - mild.detach())
    return value + torch.nan_to_num(pull)


def direct_loss(metric: Metric, batch: Batch, of_classes: bool, check: IdealCheck) -> Tensor | None:
    """0-d distance of the metric from its value at ideal scores, or from 0 where none is known, as of a log-density.

    Args:
        metric: differentiable as it is.
        batch: checked.
        of_classes: whether targets are classes, so that ideal scores are large logits rather than the targets.
        check: of the direction, once.

    Returns:
        None where the metric is undefined on this batch.
    """
    value = direct_value(metric, batch)
    with torch.no_grad():
        ideal = ideal_scores(batch.scores, batch.targets, of_classes)
        poor = ideal[None][:0] if check.believed else poor_scores(ideal)
        now, best, *others = read([value.detach(), *batch.values(metric, torch.cat([ideal[None], poor]), finite=True)])
    if now != now:
        return None
    value = narrowed(value, batch.scores, metric.name, ours=metric.batched, largest=abs(now))
    if not math.isfinite(now):
        return None
    if math.isfinite(best):
        check.compare(metric, best, others)
        check.tell_of_better(metric, now, best)
    else:
        best = 0.0
    return best - value if metric.higher_is_better else value - best


def _may_saturate(metric: Metric, batch: Batch) -> bool:
    if metric.reads == "probabilities":
        return True
    of_classes = batch.scores.ndim > batch.targets.ndim or is_binary(batch.targets)
    return not metric.batched and of_classes


def poor_scores(ideal: Tensor) -> Tensor:
    """``(5, *shape)`` scores that are worse than the ideal ones: reversed, moved to other rows, and random."""
    generator = torch.Generator().manual_seed(0)
    rows = ideal[torch.randperm(len(ideal), generator=generator).to(ideal.device)]
    size = ideal.std(correction=0) if ideal.numel() else ideal.new_ones(())
    random = torch.randn((3, *ideal.shape), generator=generator).to(ideal) * size
    return torch.cat([-ideal[None], rows[None], random])
