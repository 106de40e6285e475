"""What a fitted loss is worth before it trains anything, and the size of its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.agreement import LossFunction, agreement, as_json, difference, losses_of
from metricgrad.aligners.blocks import Store, labelled_by
from metricgrad.errors import MetricgradError
from metricgrad.losses.cross_entropy import CrossEntropy
from metricgrad.losses.network import NetworkForm
from metricgrad.metric import Metric

_BLOCKS = 200
_UNTRAINED = 0.3


def held_out_report(loss: LossFunction, metric: Metric, store: Store, *, size: int, seed: int) -> dict[str, Any]:
    """Rank correlations with the metric over blocks of these rows: of the loss and of what it must beat.

    Raises:
        MetricgradError: where the metric is undefined on nearly all blocks.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    size = min(size, max(2, len(store) // 2))
    blocks, badness = labelled_by(metric, lambda: store.draw(size, "real", generator), _BLOCKS)
    if len(blocks) < 2:
        raise MetricgradError(f"metric {metric.name!r} is undefined on nearly all blocks of {size} kept-apart rows")
    ours, standard = losses_of(loss, blocks), losses_of(CrossEntropy(), blocks)
    better = difference(ours, standard, badness, seed=seed)
    return {
        "metric": metric.name,
        "rows": len(store),
        "blocks": len(blocks),
        "correlation": as_json(agreement(ours, badness, seed=seed)),
        "cross_entropy": as_json(agreement(standard, badness, seed=seed)),
        "standardised_cross_entropy": as_json(agreement(losses_of(_standardised, blocks), badness, seed=seed)),
        "error_rate": as_json(agreement(losses_of(_error_rate, blocks), badness, seed=seed)),
        "difference": as_json(better),
        "beats_standard": better.low > 0,
    }


def match_scale(form: NetworkForm, store: Store, generator: torch.Generator) -> None:
    """Scale the form so that its gradient at an untrained model's small random scores is as long as cross-entropy's."""
    rows = torch.randperm(len(store), generator=generator)[:512].to(store.targets.device)
    targets = store.targets[rows]
    scores = (torch.randn(store.scores[rows].shape, generator=generator) * _UNTRAINED).to(store.scores)
    scores.requires_grad_()
    with torch.enable_grad():
        (standard,) = torch.autograd.grad(CrossEntropy()(scores, targets), scores)
        (ours,) = torch.autograd.grad(form.over(scores[None], targets[None]).sum(), scores)
    if float(ours.norm()) > 0:
        form.scale.fill_(float(standard.norm() / ours.norm()))


def _standardised(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of scores at unit spread, so that a batch's temperature says nothing."""
    return CrossEntropy()(scores / (scores.std() + 1e-12), targets)


def _error_rate(scores: Tensor, targets: Tensor) -> Tensor:
    predicted = (scores > 0) if scores.shape == targets.shape else scores.argmax(-1)
    return (predicted != targets).double().mean()
