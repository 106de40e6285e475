"""A metric that is differentiable as it is, used as the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.functional.leak import LEAK, START
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.batch import Batch

_MILD = 4.0


def direct_value(metric: Metric, batch: Batch) -> Tensor:
    r"""0-d value of the metric with its gradient, which sure mistakes keep.

    Where it reads probabilities, or is a function of ours to call with classes, a sigmoid or a softmax may saturate:
    beyond scores of :data:`metricgrad.functional.leak.START` the gradient is that of :math:`g(s) + \mathrm{LEAK} \, T
    \, g(s / T)`, with T such that the largest score over T is 4. The value is the metric's.
    """

    def at(scores: Tensor) -> Tensor:
        stack, targets = batch.as_called(scores[None])
        return metric.differentiable(stack[0], targets, **batch.context)

    value = at(batch.scores)
    largest = batch.scores.detach().abs().amax()
    if not _may_saturate(metric, batch) or not bool(largest > START):
        return value
    temperature = largest / _MILD
    mild = at(batch.scores / temperature)
    pull = LEAK * temperature * (mild - mild.detach())
    return value + torch.nan_to_num(pull)


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
