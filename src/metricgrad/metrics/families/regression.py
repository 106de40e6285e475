"""Metrics that are differentiable in the scores as they are; they need no surrogate.

They are computed in float64 and keep their autograd graph through :meth:`metricgrad.Metric.differentiable`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.families.parts import Parts
from metricgrad.metrics.families.values import check_values
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

_STRUCTURE = Structure("differentiable", "column")
_WEIGHTED = ("sample_weight",)
_BY_PART = ("sample_weight", "parts")


def _pair(scores: Tensor, targets: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    check_values(scores, targets, metric)
    return wide(scores), wide(targets).to(wide(scores).dtype)


def _mean(values: Tensor, weight: Tensor | None, parts: Tensor | None = None) -> Tensor:
    """Mean over the rows ``(T, N, ...)``, weighted, then over the columns."""
    if parts is not None:
        each = Parts.of(parts, weight)
        ones = 1 if weight is None else wide(weight)
        return each.mean(each.total(values * ones) / torch.where(each.weight > 0, each.weight, 1))
    if weight is None:
        return values.flatten(1).mean(-1)
    share = wide(weight) / wide(weight).sum()
    return (values.flatten(2).mean(-1) if values.ndim > 2 else values) @ share


@register("mse", reads="scores", structure=_STRUCTURE, higher_is_better=False, context=_BY_PART, targets="real")
def mse(scores: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None) -> Tensor:
    """Mean squared error; the mean over columns for (N, C) scores."""
    scores, targets = _pair(scores, targets, "mse")
    return _mean((scores - targets).square(), sample_weight, parts)


@register("mae", reads="scores", structure=_STRUCTURE, higher_is_better=False, context=_BY_PART, targets="real")
def mae(scores: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None) -> Tensor:
    """Mean absolute error; the mean over columns for (N, C) scores."""
    scores, targets = _pair(scores, targets, "mae")
    return _mean((scores - targets).abs(), sample_weight, parts)


@register("r2", reads="scores", structure=_STRUCTURE, context=_BY_PART, targets="real")
def r2(scores: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None) -> Tensor:
    """Share of the targets' variance that is explained; the mean over columns for (N, C) scores.

    As in scikit-learn, constant targets have the value 1 where they are met exactly and 0 otherwise, and a single row
    NaN.
    """
    scores, targets = _pair(scores, targets, "r2")
    if parts is not None:
        ones = wide(torch.ones_like(parts) if sample_weight is None else sample_weight)
        alone = [r2(scores[:, own], targets[own], sample_weight=ones[own]) for own in parts == parts.unique()[:, None]]
        return torch.stack(alone).mean(0)
    if len(targets) < 2:
        return scores.flatten(1).sum(-1) * torch.nan
    scores, targets = scores.reshape(len(scores), len(targets), -1), targets.reshape(len(targets), -1)
    weight = torch.ones_like(targets[:, 0]) if sample_weight is None else wide(sample_weight)
    size = targets.abs().amax()  # of both alike, so that the squares of large targets do not overflow
    size = torch.where(size > 0, size, 1)
    scores, targets = scores / size, targets / size
    centre = (weight @ targets) / weight.sum()
    residual = torch.einsum("n,tnc->tc", weight, (scores - targets).square())
    total = weight @ (targets - centre).square()
    there = (weight > 0)[:, None]  # the centre of equal numbers need not be that number
    constant = torch.where(there, targets, torch.inf).amin(0) == torch.where(there, targets, -torch.inf).amax(0)
    share = 1 - residual / torch.where(constant | (total == 0), 1, total)
    return torch.where(constant, (residual == 0).to(share), share).mean(-1)


@register(
    "log_loss",
    reads="scores",
    structure=Structure("differentiable", "none", {"of_classes": True}),
    higher_is_better=False,
    context=_WEIGHTED,
    targets="unit",
)
def log_loss(scores: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of the targets, in nats; the mean over all entries for multilabel targets.

    Computed from the logits, so a sure mistake costs what it costs; scikit-learn clips probabilities at the float's
    epsilon. Targets with the shape of the scores may be soft, from 0 to 1.
    """
    if scores.shape[1:] == targets.shape:
        scores, targets = _pair(scores, targets, "log_loss")
        cost = torch.nn.functional.softplus(scores) - scores * targets
    else:
        index = targets[None, :, None].expand(len(scores), -1, 1)
        cost = -wide(scores).log_softmax(-1).gather(2, index).squeeze(-1)
    return _mean(cost, sample_weight)
