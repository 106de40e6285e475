"""Metrics of probabilities: how far they are from what happens. They are differentiable in the scores as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

_STRUCTURE = Structure("differentiable", "none", {"of_classes": True})


@register(
    "brier",
    reads="probabilities",
    structure=_STRUCTURE,
    higher_is_better=False,
    context=("sample_weight",),
    targets="unit",
)
def brier(probabilities: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Mean squared error of the probabilities: from 0 to 1 for yes or no, from 0 to 2 for classes.

    As in scikit-learn, a row of classes costs the sum over its classes; of multilabel targets all entries are averaged.
    """
    p = wide(probabilities)
    if p.shape[1:] == targets.shape:
        cost = (p - wide(targets)).square().reshape(*p.shape[:2], -1).mean(-1)
    else:
        cost = (p - torch.nn.functional.one_hot(targets, p.shape[-1])).square().sum(-1)
    if sample_weight is None:
        return cost.mean(-1)
    return cost @ (wide(sample_weight) / wide(sample_weight).sum())


@register("ece", reads="probabilities", structure=_STRUCTURE, higher_is_better=False)
def ece(probabilities: Tensor, targets: Tensor, *, bins: int = 15) -> Tensor:
    """Expected calibration error: how far confidence is from the share that is right, over bins of equal width.

    The confidence of a row of classes is its largest probability; of a yes or no, the probability of yes against the
    share of yes, all entries together for multilabel targets, as in torchmetrics with the norm l1. Its gradient is that
    with each row in the bin it is in. A model that always says the class rates has the value 0: train on ``log_loss``
    or ``brier`` instead, and choose by this.
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise MetricgradError(f"bins is {bins!r}; expected a whole number from 1")
    p = wide(probabilities)
    if p.shape[1:] == targets.shape:
        confidence, right = p.flatten(1), targets.reshape(1, -1).to(p)
    else:
        confidence, predicted = p.max(-1)
        right = (predicted == targets).to(p)
    place = (confidence.detach() * bins).floor().long().clamp(0, bins - 1)
    gap = confidence.new_zeros(len(p), bins).scatter_add(1, place, confidence - right)
    return gap.abs().sum(-1) / confidence.shape[1]
