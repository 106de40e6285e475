"""From one batch of raw scores to what a metric reads: shapes, masks, context and the explicit decoder.

Everything is decided by shapes and by what the metric says it reads, never by looking at the values of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from metricgrad.checks import check_tensor, where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.functional.log_odds import log_odds_of_rows
from metricgrad.metrics.context import checked_context
from metricgrad.metrics.types import Reads, TargetKind
from metricgrad.value_range import are_whole, ranges_of


def canonical(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Bring one batch to the shapes in the table of :mod:`metricgrad.metrics.metric`, of what the mask keeps.

    Args:
        scores: ``(N,)``, ``(N, 1)``, ``(N, C)`` or ``(B, T, C)`` logits, or of masks ``(N, H, W)``.
        targets: ``(N,)``, ``(N, C)`` or ``(B, T)``, or of the same masks.
        mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

    Returns:
        ``(N,)`` or ``(N, C)`` scores in float32 or float64, and ``(N,)`` or ``(N, C)`` targets.

    Raises:
        MetricgradError: where the shapes fit none of these.
    """
    check_tensor("scores", scores)
    stack = scores[None] if scores.ndim else scores
    if mask is None:
        stack, targets = canonical_stack(stack, targets)
    else:
        stack, targets, *_ = kept_items(stack, targets, {"mask": mask}, takes=(), who="this loss")
    return stack[0], targets


def kept_items(
    stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, takes: Collection[str], who: str
) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor | None]:
    """Score sets and targets in canonical shapes, of what the mask keeps, and the context as one value for each item.

    Args:
        stack: ``(T, ...)`` score sets.
        targets: of one batch, shared by all sets.
        context: what the caller gave; see :func:`metricgrad.metrics.context.checked_context`.
        takes: the names that are read besides ``mask``.
        who: reads them, for messages.

    Returns:
        Scores, targets, the context as ``(N,)``, and None; or, for a mask over the single entries of ``(N, C)``
        targets, ``(T, M)`` scores and ``(M,)`` targets of the entries left, and ``(M,)`` their numbers, row by row.
    """
    lead = targets.shape if isinstance(targets, Tensor) else torch.Size()
    stack, targets = canonical_stack(stack, targets)
    if all(value is None for value in context.values()):
        return stack, targets, {}, None
    mask = context.get("mask")
    of_entries = targets.ndim == 2 and isinstance(mask, Tensor) and mask.shape == lead
    items = lead if of_entries or targets.ndim == 1 else lead[:-1]
    mask, given = checked_context(context, items, targets.device, takes=takes, who=who)
    given = {name: value.reshape(-1) for name, value in given.items()}
    if mask is None:
        return stack, targets, given, None
    place = mask.reshape(-1).nonzero().squeeze(-1)
    if of_entries:
        stack, targets = stack.flatten(1), targets.reshape(-1)
    given = {name: value[place] for name, value in given.items()}
    return stack[:, place], targets[place], given, place if of_entries else None


def canonical_stack(stack: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`canonical` for ``(T, ...)`` score sets of the same targets, nothing left out."""
    stack, targets = fitting(stack, targets)
    if stack.ndim == targets.ndim + 2 and targets.ndim > 1:
        stack, targets = stack.reshape(len(stack), targets.numel(), stack.shape[-1]), targets.reshape(-1)
    elif stack.ndim == targets.ndim + 1 and targets.ndim > 2:
        stack, targets = stack.flatten(1), targets.flatten()
    if tuple(stack.shape[1:]) == tuple(targets.shape) and targets.ndim == 2 and targets.shape[1] == 1:
        stack, targets = stack.squeeze(-1), targets.squeeze(-1)
    return stack, targets


def fitting(stack: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Float score sets in the shape of the targets, or with one more axis for the classes, and detached targets.

    Raises:
        MetricgradError: where they are no such tensors; the message names the remedy.
    """
    check_tensor("scores", stack)
    check_tensor("targets", targets)
    item = tuple(stack.shape[1:])
    if targets.ndim == 0 or stack.ndim <= 1:
        raise MetricgradError(
            f"scores of shape {item} and targets of shape {tuple(targets.shape)} have no batch axis; "
            "pass at least one row, for example scores[None] and targets[None]"
        )
    stack = floating(stack, targets)
    if len(item) == targets.ndim + 1 and item[-1] == 1:
        stack, item = stack.squeeze(-1), item[:-1]
    if item != tuple(targets.shape) and item[:-1] != tuple(targets.shape):
        raise MetricgradError(_shape_message(item, tuple(targets.shape)))
    return stack, targets.detach() if targets.requires_grad else targets


def floating(stack: Tensor, targets: Tensor) -> Tensor:
    """Float score sets on the device of the targets, in float32 or float64.

    Raises:
        MetricgradError: for whole numbers, and for two devices.
    """
    if not stack.is_floating_point():
        raise MetricgradError(f"scores have dtype {stack.dtype}; raw scores are logits: pass floats, as scores.float()")
    if stack.device != targets.device:
        raise MetricgradError(
            f"scores are on {stack.device} and targets on {targets.device}; move one: targets.to(scores.device)"
        )
    return stack if stack.dtype in (torch.float32, torch.float64) else stack.float()


def decode(scores: Tensor, elementwise: bool, reads: Reads) -> Tensor:
    """Turn logits into what a metric reads; ``elementwise`` says whether scores and targets share their shape."""
    if reads in ("scores", "embeddings"):
        return scores
    if reads == "probabilities":
        return scores.sigmoid() if elementwise else scores.softmax(-1)
    return (scores > 0).long() if elementwise else scores.argmax(-1)


def log_odds(scores: Tensor, elementwise: bool) -> Tensor:
    """The logit of each probability: the same order as the probabilities, without the ties of a saturated float.

    A float32 sigmoid is 1 from 17 up, and a softmax as soon as one class leads by 17: items that a ranking metric
    tells apart would become ties. See :mod:`metricgrad.functional.log_odds`.

    Args:
        scores: ``(..., C)``, or any shape where ``elementwise``.
        elementwise: whether scores and targets share their shape; the logit of a sigmoid is the score itself.

    Returns:
        The shape and dtype of ``scores``.
    """
    return scores if elementwise or scores.shape[-1] < 2 else log_odds_of_rows(scores)


def checked_targets(targets: Tensor, kind: TargetKind, classes: int | None, metric: str) -> Tensor:
    """Refuse targets a metric cannot mean, and bring labels to int64.

    Args:
        targets: ``(N,)`` or ``(N, C)``, of any dtype.
        kind: ``"labels"``, ``"gains"`` (0 and up), ``"unit"`` (0 to 1), ``"real"``, or ``"classes"``: whole numbers of
            any size, for metrics of embeddings, whose columns are no classes.
        classes: the number of score columns for class indices; None where scores and targets share their shape.
        metric: its name, for the message.

    Raises:
        MetricgradError: naming the remedy.
    """
    if not targets.numel() or kind == "real":
        return targets
    if kind == "classes":
        return _integral(targets, metric)
    low, high = ranges_of(targets)[0]
    if classes is not None:
        labels = _integral(targets, metric)
        if low < 0 or high >= classes:
            raise MetricgradError(
                f"metric {metric!r}: targets run from {low:g} to {high:g}, but the scores have {classes} columns, so "
                f"classes 0 to {classes - 1}; leave ignored rows out with ignore_index= or mask=, number classes from "
                "0, or give the model a score for each class"
            )
        return labels
    if kind == "labels":
        labels = _integral(targets, metric)
        if low < 0 or high > 1:
            raise MetricgradError(
                f"metric {metric!r}: targets run from {low:g} to {high:g}, but scores of their shape are one logit for "
                "each yes or no; pass 0 and 1, as (targets > 0), or (N, C) scores for class indices"
            )
        return labels
    if not 0 <= low <= high < math.inf or (kind == "unit" and high > 1):
        _check_finite(targets, metric)
        span = "0 to 1" if kind == "unit" else "0 upwards"
        raise MetricgradError(f"metric {metric!r}: targets run from {low:g} to {high:g}; expected {span}")
    return targets


def is_binary(targets: Tensor) -> bool:
    """Whether all targets are 0 or 1, of any dtype; so are none at all."""
    return ranges_of(targets)[0].within(0, 1) and are_whole(targets)


def narrowed(found: Tensor, scores: Tensor, name: str, *, ours: bool, largest: float | None = None) -> Tensor:
    """Values in the dtype of the scores, or as they are where one of them is beyond its range.

    Args:
        found: values of a metric.
        scores: whose.
        name: of the metric.
        ours: whether it is, and so has to have finite values of finite scores.
        largest: of the values, where the host knows it; otherwise it waits for their device.

    Raises:
        MetricgradError: for an infinite value of ours.
    """
    if largest is None:
        largest = float(found.detach().nan_to_num(0.0, torch.inf, -torch.inf).abs().amax())
    if ours and largest == math.inf and ranges_of(scores)[0].finite:
        raise MetricgradError(
            f"metric {name!r} of these scores is beyond the range of float64: scores reach "
            f"{float(scores.abs().max()):g}; divide scores and targets by a common size"
        )
    dtype = torch.promote_types(scores.dtype, torch.float32)  # of half precision too
    return found if torch.finfo(dtype).max < largest < math.inf else found.to(dtype)


def _integral(targets: Tensor, metric: str) -> Tensor:
    if not are_whole(targets):
        _check_finite(targets, metric)
        raise MetricgradError(
            f"metric {metric!r} needs whole labels, got {targets.dtype} targets with fractions; "
            "round soft labels first, as (targets > 0.5)"
        )
    return targets.long()


def _check_finite(targets: Tensor, metric: str) -> None:
    if found := where_not_finite(targets):
        raise MetricgradError(f"metric {metric!r}: targets hold {found}; leave those rows out with mask=")


def _shape_message(item: tuple[int, ...], targets: tuple[int, ...]) -> str:
    message = (
        f"scores have shape {item} and targets {targets}; expected equal shapes (binary, multilabel, regression) or "
        "scores with one more axis for the classes, on axis 1 or last"
    )
    fitting = item, item[:-1], item[:1] + item[2:]
    for axis, which, rest in ((-1, "last", targets[:-1]), (1, "second", targets[:1] + targets[2:])):
        if len(targets) > 1 and targets[axis] == 1 and rest in fitting:
            return f"{message}: drop the {which} axis of the targets, as targets.squeeze({axis})"
    if len(item) == 2 and len(targets) == 1 and item[1] == targets[0]:
        return f"{message}: one row of scores wants targets[None] or scores[0]"
    return message
