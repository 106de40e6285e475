"""The mismatch of a loss and a metric, measured without training anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.fitting.agreement import Agreement, LossFunction, agreement, losses_of
from metricgrad.aligners.fitting.blocks import Block, ScoreStore, labelled_by
from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_whole
from metricgrad.losses.calling import called
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.context import refuse_others
from metricgrad.metrics.layouts.class_targets import axis_of
from metricgrad.metrics.metric import Metric


def mismatch(
    loss: LossFunction,
    metric: str | Metric | Callable[..., Any],
    scores: Tensor,
    targets: Tensor,
    *,
    groups: Tensor | None = None,
    block: int = 64,
    blocks: int = 200,
    per_class: int = 8,
    seed: int = 0,
    **others: Any,
) -> Agreement:
    """How well a loss ranks blocks of rows as the metric ranks them.

    Use it to see whether there is a mismatch worth closing. It says nothing of how well the loss trains.

    Args:
        loss: any function of (scores, targets) that returns a scalar and is minimised; one that is not ours is handed
            what torch's own losses take, see :mod:`metricgrad.losses.calling`. Groups go to a loss that names them.
        metric: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
        scores: stored logits, any shape of :mod:`metricgrad.metrics.metric`; 32 rows or more.
        targets: their targets.
        groups: as in :meth:`metricgrad.ReLoss.fit`.
        block: rows of one block; at most half of all.
        blocks: how many are drawn; those on which the metric is undefined are drawn again.
        per_class: rows of a class in a block of embeddings; else unused.
        seed: of the draws and of the bootstrap.
        others: nothing else is taken.

    Returns:
        Spearman's correlation, 1 where a lower loss always goes with a better metric, with a bootstrap interval over
        blocks.

    Raises:
        MetricgradError: for fewer than 32 rows, a metric that is undefined on nearly all blocks, or anything else that
            is passed, such as a mask.

    Cost: ``blocks`` calls of the loss and of the metric.

    Example:
        >>> import torch, metricgrad as mg
        >>> g = torch.Generator().manual_seed(0)
        >>> targets = torch.randint(3, (300,), generator=g)
        >>> scores = torch.randn(300, 3, generator=g) + 2 * torch.nn.functional.one_hot(targets, 3)
        >>> found = mg.mismatch(torch.nn.functional.cross_entropy, "accuracy", scores, targets)
        >>> 0.5 < found.value < 1
        True
    """
    if not callable(loss):
        raise MetricgradError(
            f"loss is {loss!r}; pass a function of (scores, targets), such as torch.nn.functional.cross_entropy or "
            "mg.UniLoss(metric); `metricgrad diagnose` takes losses by name"
        )
    refuse_others(others, "mismatch", ("groups", "block", "blocks", "per_class", "seed"))
    judged_by = as_metric(metric)
    drawn, target_loss = drawn_blocks(
        judged_by, scores, targets, groups=groups, block=block, blocks=blocks, per_class=per_class, seed=seed
    )
    axis = axis_of(scores.shape, targets.shape, judged_by.class_targets.class_dim)

    def value(scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        # a loss may have been told where the classes are
        return called(loss, scores.movedim(-1, axis) if scores.ndim > 2 else scores, targets, context)

    return agreement(losses_of(value, drawn, in_groups=True), target_loss, seed=seed)


def drawn_blocks(
    metric: str | Metric | Callable[..., Any],
    scores: Tensor,
    targets: Tensor,
    *,
    groups: Tensor | None = None,
    block: int,
    blocks: int,
    per_class: int = 8,
    seed: int,
) -> tuple[list[Block], Tensor]:
    """The blocks of :func:`mismatch`, classes last, and the target loss of each: the metric, lower being better.

    Raises:
        MetricgradError: for fewer than 32 rows, or a metric that is undefined on nearly all blocks.
    """
    for name, count in (("block", block), ("blocks", blocks), ("per_class", per_class)):
        checked_whole(name, count, least=2)
    checked_whole("seed", seed)
    judged_by = as_metric(metric)
    check_tensor("scores", scores)
    check_tensor("targets", targets)
    classes = replace(judged_by.class_targets, pos_label=None)
    scores, targets, *rest = classes.pairs(scores, targets, groups=groups)
    groups, read = rest[0] if rest else None, replace(judged_by.class_targets, class_dim=-1, ignore_index=None)
    judged_by = judged_by._copy(class_targets=read)
    balanced = per_class if judged_by.layout.of_embeddings else None
    store = ScoreStore.of(scores, targets, layout=judged_by.layout, groups=groups, per_class=balanced)
    size = store.fits(block)
    generator = torch.Generator().manual_seed(seed)
    drawn, target_loss = labelled_by(judged_by, lambda: store.draw(size, "real", generator), blocks)
    if len(drawn) < 2:
        raise MetricgradError(f"the metric is undefined on nearly all blocks of {size} rows; pass a larger block")
    return drawn, target_loss
