"""What a fitted loss is worth before it trains anything, and the size of its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.base import AlignedLoss
from metricgrad.aligners.fitting.agreement import agreement, as_json, difference, losses_of
from metricgrad.aligners.fitting.blocks import Block, ScoreStore, labelled_by
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.metrics.metric import Metric

_BLOCKS = 200
_SLOPED = 20
_UNTRAINED = 0.3
_ROWS = 512


def held_out_report(loss: AlignedLoss, metric: Metric, store: ScoreStore, *, size: int, seed: int) -> dict[str, Any]:
    """Rank correlations with the metric over blocks of these rows, of the loss and of what it must beat; its slopes.

    Args:
        loss: whose form is a :class:`NetworkForm`.
        metric: what it was fitted to.
        store: rows held out from the fit.
        size: rows of a block; at most half of what there is to choose from.
        seed: of blocks and bootstrap.

    Raises:
        MetricgradError: where the metric is undefined on nearly all blocks.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    size = store.fits(size)
    form = loss.form
    assert isinstance(form, NetworkForm)
    blocks, target_loss = labelled_by(
        metric, lambda: store.draw(size, "real", generator), _BLOCKS, keep=store.kept(form)
    )
    if len(blocks) < 2:
        raise MetricgradError(f"metric {metric.name!r} is undefined on nearly all blocks of {size} held-out rows")
    ours, standard = losses_of(loss, blocks, in_groups=True), losses_of(form.standard_loss, blocks, in_groups=True)
    better = difference(ours, standard, target_loss, seed=seed)
    return {
        "metric": metric.name,
        "rows": len(store),
        "blocks": len(blocks),
        "correlation": as_json(agreement(ours, target_loss, seed=seed)),
        form.reader.standard_name: as_json(agreement(standard, target_loss, seed=seed)),
        **{
            name: as_json(agreement(losses_of(rival, blocks), target_loss, seed=seed))
            for name, rival in form.reader.rivals().items()
        },
        "difference": as_json(better),
        "beats_standard": better.low > 0,
        **_slopes(loss, form, blocks[:_SLOPED]),
    }


def _slopes(loss: AlignedLoss, form: NetworkForm, blocks: list[Block]) -> dict[str, float]:
    """How often a step towards the target lowers the loss, and how long its gradient is beside the standard loss's."""
    lowers: list[Tensor] = []
    norms: list[Tensor] = []
    for block in blocks:
        scores, targets = block.scores, block.targets
        leaf = scores.detach().clone().requires_grad_()
        with torch.enable_grad():
            (ours,) = torch.autograd.grad(
                loss.form(leaf, targets, call=CallContext(0, 0, False), **block.context), leaf
            )
            (standard,) = torch.autograd.grad(form.standard_loss(leaf, targets, block.groups), leaf)
        norms.append(torch.stack([ours.norm(), standard.norm()]))
        lowers.append(form.reader.target_direction(ours, scores, targets) < 0)
    length, of_standard = torch.stack(norms).double().mean(0).tolist()
    return {"monotone": float(torch.cat(lowers).double().mean()), "gradient_scale": length / max(of_standard, 1e-30)}


def match_scale(form: NetworkForm, store: ScoreStore, generator: torch.Generator, *, size: int) -> None:
    """Scale the form so that its gradient at an untrained model's small random scores is as long as the standard's."""
    few = store.layout.rows_are_batches(store.targets)
    block = store.draw(store.fits(size) if few else _ROWS, "real", generator)
    scores, targets = store.layout.from_stored(form.read)(block.scores, block.targets)
    scores = (torch.randn(scores.shape, generator=generator) * _UNTRAINED).to(scores)
    scores.requires_grad_()
    with torch.enable_grad():
        (standard,) = torch.autograd.grad(form.standard_loss(scores, targets, block.groups), scores)
        (ours,) = torch.autograd.grad(form.unscaled(scores, targets, block.groups), scores)
    if float(ours.norm()) > 0:
        form.scale.fill_(float(standard.norm() / ours.norm()))
