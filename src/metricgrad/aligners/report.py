"""What a fitted loss is worth before it trains anything, and the size of its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metricgrad.aligners.agreement import LossFunction, agreement, as_json, difference, losses_of
from metricgrad.aligners.blocks import Block, Store, labelled_by
from metricgrad.errors import MetricgradError
from metricgrad.losses.cross_entropy import CrossEntropy
from metricgrad.losses.form import Draw
from metricgrad.losses.network import NetworkForm
from metricgrad.metric import Metric
from metricgrad.metrics.layouts import Layout

if TYPE_CHECKING:
    from metricgrad.loss import Loss

_BLOCKS = 200
_SLOPED = 20
_UNTRAINED = 0.3


def held_out_report(loss: Loss, metric: Metric, store: Store, *, size: int, seed: int) -> dict[str, Any]:
    """Rank correlations with the metric over blocks of these rows, of the loss and of what it must beat; its slopes.

    Args:
        loss: whose form is a :class:`NetworkForm`.
        metric: what it was fitted to.
        store: rows kept apart from the fit.
        size: of a block; at most half the rows.
        seed: of blocks and bootstrap.

    Raises:
        MetricgradError: where the metric is undefined on nearly all blocks.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    size = min(size, max(2, len(store) // 2))
    form = loss.form
    assert isinstance(form, NetworkForm)
    blocks, badness = labelled_by(metric, lambda: store.draw(size, "real", generator), _BLOCKS, keep=form.condensed)
    if len(blocks) < 2:
        raise MetricgradError(f"metric {metric.name!r} is undefined on nearly all blocks of {size} kept-apart rows")
    ours, standard = losses_of(loss, blocks), losses_of(form.standard, blocks)
    better, rivals = difference(ours, standard, badness, seed=seed), _rivals(form, store.layout)
    return {
        "metric": metric.name,
        "rows": len(store),
        "blocks": len(blocks),
        "correlation": as_json(agreement(ours, badness, seed=seed)),
        **{name: as_json(agreement(losses_of(f, blocks), badness, seed=seed)) for name, f in rivals.items()},
        "difference": as_json(better),
        "beats_standard": better.low > 0,
        **_slopes(loss, form, blocks[:_SLOPED]),
    }


def _rivals(form: NetworkForm, layout: Layout) -> dict[str, LossFunction]:
    """What the report shows beside the loss: the standard one, and for labels and maps what tells why it is better."""
    if layout == "maps":
        return {"standard": form.standard, "standardised_standard": of_standardised_maps(form.standard)}
    if not form.of_labels:
        return {"standard": form.standard}
    return {
        "cross_entropy": form.standard,
        "standardised_cross_entropy": standardised_cross_entropy,
        "error_rate": error_rate,
    }


def _slopes(loss: Loss, form: NetworkForm, blocks: list[Block]) -> dict[str, float]:
    """How often a step towards the target lowers the loss, and how long its gradient is beside the standard loss's."""
    lowers: list[Tensor] = []
    norms: list[Tensor] = []
    for scores, targets in blocks:
        leaf = scores.detach().clone().requires_grad_()
        with torch.enable_grad():
            (ours,) = torch.autograd.grad(loss.form(leaf, targets, draw=Draw(0, 0, False)), leaf)
            (standard,) = torch.autograd.grad(form.standard(leaf, targets), leaf)
        norms.append(torch.stack([ours.norm(), standard.norm()]))
        lowers.append(_towards(ours, scores, targets) < 0)
    long, usual = torch.stack(norms).double().mean(0).tolist()
    return {"monotone": float(torch.cat(lowers).double().mean()), "gradient_scale": long / max(usual, 1e-30)}


def _towards(slope: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
    """The slope of each entry in the direction of its target."""
    if scores.ndim == 3 and targets.shape[1:] == (2,) and targets.is_floating_point():  # heat maps and their points
        x, y = (targets[:, k].round().long().clamp(0, scores.shape[2 - k] - 1) for k in (0, 1))
        return slope[torch.arange(len(slope), device=slope.device), y, x]
    if scores.ndim == targets.ndim + 1:
        kept = targets >= 0
        return slope.gather(-1, targets.long().clamp(min=0)[..., None])[..., 0][kept]
    binary = bool(((targets == 0) | (targets == 1)).all())
    direction = 2 * targets.to(scores.dtype) - 1 if binary else (targets - scores).sign()
    return (slope * direction).flatten()


def match_scale(form: NetworkForm, store: Store, generator: torch.Generator) -> None:
    """Scale the form so that its gradient at an untrained model's small random scores is as long as cross-entropy's."""
    rows = torch.randperm(len(store), generator=generator)[:512].to(store.targets.device)
    targets = store.targets[rows]
    scores = (torch.randn(store.scores[rows].shape, generator=generator) * _UNTRAINED).to(store.scores)
    scores.requires_grad_()
    with torch.enable_grad():
        (standard,) = torch.autograd.grad(form.standard(scores, targets), scores)
        (ours,) = torch.autograd.grad(form.over(scores[None], targets[None]).sum(), scores)
    if float(ours.norm()) > 0:
        form.scale.fill_(float(standard.norm() / ours.norm()))


def standardised_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """0-d: cross-entropy of scores at unit spread, so that a batch's temperature says nothing."""
    return CrossEntropy()(scores / (scores.std() + 1e-12), targets)


def of_standardised_maps(standard: LossFunction) -> LossFunction:
    """The loss of heat maps at zero mean and unit spread over the batch, so that their level and height say nothing.

    The squared error is then a constant less the covariance with the targets' maps, near their correlation.
    """
    return lambda scores, targets: standard((scores - scores.mean()) / (scores.std() + 1e-12), targets)


def error_rate(scores: Tensor, targets: Tensor) -> Tensor:
    """0-d: the share of labels that are wrong, which tells how much of a correlation is accuracy's."""
    predicted = (scores > 0) if scores.shape == targets.shape else scores.argmax(-1)
    return (predicted != targets).double().mean()
