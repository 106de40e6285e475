"""What a fitted loss is worth before it trains anything, and the size of its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.agreement import LossFunction, agreement, as_json, difference, losses_of
from metricgrad.aligners.base import AlignedLoss
from metricgrad.aligners.blocks import Block, Store, labelled_by
from metricgrad.errors import MetricgradError
from metricgrad.losses.cross_entropy import CrossEntropy
from metricgrad.losses.form import Draw
from metricgrad.losses.network import NetworkForm
from metricgrad.metrics.layouts import HEAT_MAPS, Layout
from metricgrad.metrics.metric import Metric

_BLOCKS = 200
_SLOPED = 20
_UNTRAINED = 0.3
_ROWS = 512


def held_out_report(loss: AlignedLoss, metric: Metric, store: Store, *, size: int, seed: int) -> dict[str, Any]:
    """Rank correlations with the metric over blocks of these rows, of the loss and of what it must beat; its slopes.

    Args:
        loss: whose form is a :class:`NetworkForm`.
        metric: what it was fitted to.
        store: rows kept apart from the fit.
        size: rows of a block; at most half of what there is to choose from.
        seed: of blocks and bootstrap.

    Raises:
        MetricgradError: where the metric is undefined on nearly all blocks.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    size = store.fits(size)
    form = loss.form
    assert isinstance(form, NetworkForm)
    blocks, badness = labelled_by(metric, lambda: store.draw(size, "real", generator), _BLOCKS, keep=store.kept(form))
    if len(blocks) < 2:
        raise MetricgradError(f"metric {metric.name!r} is undefined on nearly all blocks of {size} kept-apart rows")
    ours, standard = losses_of(loss, blocks, in_groups=True), losses_of(form.usual, blocks, in_groups=True)
    better = difference(ours, standard, badness, seed=seed)
    return {
        "metric": metric.name,
        "rows": len(store),
        "blocks": len(blocks),
        "correlation": as_json(agreement(ours, badness, seed=seed)),
        **{
            name: as_json(agreement(found, badness, seed=seed))
            for name, found in _rivals(form, blocks, standard, store.layout).items()
        },
        "difference": as_json(better),
        "beats_standard": better.low > 0,
        **_slopes(loss, form, blocks[:_SLOPED]),
    }


def _rivals(form: NetworkForm, blocks: list[Block], standard: Tensor, layout: Layout) -> dict[str, Tensor]:
    """What the report shows beside the loss: the standard one, and for labels and maps what tells why it is better."""
    if layout is HEAT_MAPS:
        standardised = losses_of(of_standardised_maps(form.standard), blocks)
        return {"standard": standard, "standardised_standard": standardised}
    if not form.of_labels:
        return {"standard": standard}
    return {
        "cross_entropy": standard,
        "standardised_cross_entropy": losses_of(standardised_cross_entropy, blocks),
        "error_rate": losses_of(error_rate, blocks),
    }


def _slopes(loss: AlignedLoss, form: NetworkForm, blocks: list[Block]) -> dict[str, float]:
    """How often a step towards the target lowers the loss, and how long its gradient is beside the standard loss's."""
    lowers: list[Tensor] = []
    norms: list[Tensor] = []
    for block in blocks:
        scores, targets = block.scores, block.targets
        leaf = scores.detach().clone().requires_grad_()
        with torch.enable_grad():
            (ours,) = torch.autograd.grad(loss.form(leaf, targets, draw=Draw(0, 0, False), **block.context), leaf)
            (standard,) = torch.autograd.grad(form.usual(leaf, targets, block.groups), leaf)
        norms.append(torch.stack([ours.norm(), standard.norm()]))
        lowers.append(form.towards(ours, scores, targets) < 0)
    long, usual = torch.stack(norms).double().mean(0).tolist()
    return {"monotone": float(torch.cat(lowers).double().mean()), "gradient_scale": long / max(usual, 1e-30)}


def match_scale(form: NetworkForm, store: Store, generator: torch.Generator, *, size: int) -> None:
    """Scale the form so that its gradient at an untrained model's small random scores is as long as the standard's."""
    few = store.layout.rows_are_batches(store.targets)
    block = store.draw(store.fits(size) if few else _ROWS, "real", generator)
    scores, targets = store.layout.from_stored(form.read)(block.scores, block.targets)
    scores = (torch.randn(scores.shape, generator=generator) * _UNTRAINED).to(scores)
    scores.requires_grad_()
    with torch.enable_grad():
        (standard,) = torch.autograd.grad(form.usual(scores, targets, block.groups), scores)
        (ours,) = torch.autograd.grad(form.unscaled(scores, targets, block.groups), scores)
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
