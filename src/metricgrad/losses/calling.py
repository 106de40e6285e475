"""How a loss is called: ours with raw scores, any other as torch's own losses are; context is passed on or refused.

A loss that is not ours sees a documented convention, wherever it is called for the user (``compare``, ``fit``,
``mismatch``, look-ahead objectives, :class:`metricgrad.losses.composite.hand_made.HandMade`):

==========================================  ==============================  ======================================
raw scores / targets                        what the loss is handed         fits, for example
==========================================  ==============================  ======================================
(N,) or (N, 1) / (N,) or (N, 1)             (N,) / (N,), in scores' dtype   BCEWithLogitsLoss, MSELoss, HuberLoss
one shape, such as (N, C) or (N, H, W)      the same, in scores' dtype      MultiLabelSoftMarginLoss, L1Loss
(N, C) / (N,) classes                       (N, C) / (N,), int64            CrossEntropyLoss, MultiMarginLoss
(N, ..., C) or (N, C, ...) / (N, ...)       (N, C, ...) / (N, ...), int64   CrossEntropyLoss
anything else, such as heat maps            as they are
==========================================  ==============================  ======================================

``SoftMarginLoss`` and ``HingeEmbeddingLoss`` get targets of -1 and 1, as torch documents them. Rows that a mask leaves
out are taken out before; other context goes to a loss whose signature names it, and is refused otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import CONTEXT, checked_context, given_names
from metricgrad.metrics.layouts.class_targets import ClassDim
from metricgrad.precision import FullPrecision

_OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
_OF_SIGNS = (nn.SoftMarginLoss, nn.HingeEmbeddingLoss)


class ScoreLoss(FullPrecision):
    """Abstract: a loss that takes raw scores, targets and context as :mod:`metricgrad.metrics.metric` lays them out.

    It checks its context itself and refuses what it does not read. A module of your own that derives from it is
    handed exactly what the model and the data give.
    """


def called(
    loss: Callable[..., Tensor], scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None] | None = None,
    *, class_dim: ClassDim = -1,
) -> Tensor:  # fmt: skip
    """The value of a loss, whoever wrote it.

    Args:
        loss: ours, or any module or function of scores and targets.
        scores: raw.
        targets: of one batch.
        context: what comes along; nothing of it is dropped.
        class_dim: the axis of the classes where the shapes fit both ways; last, as of batches that were read.

    Raises:
        MetricgradError: for context that the loss does not take, or a torch loss of classes where there are none.
    """
    context = context or {}
    inner = getattr(loss, "_orig_mod", loss)  # of torch.compile
    if isinstance(inner, ScoreLoss):
        return loss(scores, targets, **context)
    who = type(inner).__name__ if isinstance(inner, nn.Module) else getattr(loss, "__name__", type(loss).__name__)
    check_tensor("scores", scores)
    check_tensor("targets", targets)
    kept = {}
    if any(value is not None for value in context.values()):
        takes = _taken(inner)
        given_names(context, takes, f"{who}.forward" if isinstance(inner, nn.Module) else who)
        mask, _ = checked_context(context, targets.shape, targets.device, takes=takes, who=who)
        kept = {name: value for name, value in context.items() if value is not None}
        if mask is not None and "mask" not in takes:
            rows = _rows(kept.pop("mask"), who)
            kept = {name: value[rows] if len(value) == len(rows) else value for name, value in kept.items()}
            scores, targets = scores[rows], targets[rows]
    scores, targets = as_torch_takes(scores, targets, class_dim)
    if scores.ndim == 1 and isinstance(inner, _OF_CLASSES):
        raise MetricgradError(
            f"{who} reads (N, C) scores of classes, and here is one score for each item; use "
            "torch.nn.BCEWithLogitsLoss, or a model with a score for each class"
        )
    if isinstance(inner, _OF_SIGNS):
        targets = torch.where(targets > 0, 1, -1).to(targets)
    return loss(scores, targets, **kept)


def as_torch_takes(scores: Tensor, targets: Tensor, class_dim: ClassDim = -1) -> tuple[Tensor, Tensor]:
    """Scores and targets in the shapes and dtypes that torch's own losses take; see the table of this module."""
    if scores.ndim == targets.ndim + 1 and scores.shape == (*targets.shape, 1):
        scores = scores.squeeze(-1)
    elif targets.ndim == scores.ndim + 1 and targets.shape == (*scores.shape, 1):
        targets = targets.squeeze(-1)
    if scores.shape == targets.shape:
        if scores.ndim > 1 and scores.shape[-1] == 1:
            scores, targets = scores.squeeze(-1), targets.squeeze(-1)
        return scores, targets.to(scores.dtype)
    first, last = scores.shape[:1] + scores.shape[2:] == targets.shape, scores.shape[:-1] == targets.shape
    whole = targets.long()
    if not (first or last) or (targets.is_floating_point() and not bool((whole == targets).all())):
        return scores, targets
    return (scores if first and (class_dim == 1 or not last) else scores.movedim(-1, 1)), whole


def _taken(loss: Callable[..., Tensor]) -> frozenset[str]:
    """The context that a signature names; all of it where the signature takes any keyword."""
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters
    except (TypeError, ValueError):
        return frozenset()
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return frozenset(CONTEXT)
    return frozenset(CONTEXT) & parameters.keys()


def _rows(mask: Tensor, who: str) -> Tensor:
    if mask.ndim != 1:
        raise MetricgradError(
            f"mask has shape {tuple(mask.shape)}, and {who} takes no mask, so only whole rows (N,) can be left out for "
            "it; write a mask argument into it, or pass it scores[mask] and targets[mask] yourself"
        )
    return mask
