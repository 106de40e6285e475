"""What comes along with a batch: masks, query groups, weights; brought to the rows that the metric sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.decoding import canonical_stack, check_tensor

CONTEXT = ("groups", "mask", "sample_weight", "head_sizes")


def context_of(fn: Callable[..., Any]) -> frozenset[str]:
    """The context that a callable's signature names; the mask is never its business."""
    try:
        names = signature(fn).parameters
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(name for name in CONTEXT if name in names and name != "mask")


def prepare(
    stack: Tensor,
    targets: Tensor,
    context: Mapping[str, Tensor | None],
    *,
    takes: frozenset[str],
    keeps_apart: bool,
    name: str,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Canonical scores and targets, and the context as one value for each row.

    Args:
        stack: ``(T, ...)`` logits.
        targets: of one batch, in any of the accepted shapes.
        context: what the caller gave; None counts as not given.
        takes: the names the metric takes besides ``mask``.
        keeps_apart: whether the metric looks at rows or columns of ``(N, C)`` targets, so that entries cannot be
            masked one by one.
        name: the metric's, for messages.
    """
    given = {k: v for k, v in context.items() if v is not None}
    for key in given:
        if key not in CONTEXT:
            raise MetricgradError(f"unknown context {key!r}; expected one of {', '.join(CONTEXT)}")
    mask = given.pop("mask", None)
    for key in given:
        if key not in takes:
            raise MetricgradError(
                f"metric {name!r} takes no {key!r}, only {', '.join(sorted(takes | {'mask'}))}; leave it out"
            )
    lead = targets.shape if isinstance(targets, Tensor) else torch.Size()
    full = isinstance(mask, Tensor) and isinstance(stack, Tensor) and stack.shape[1:] == lead == mask.shape
    stack, targets = canonical_stack(stack, targets, mask)
    if mask is not None and full and mask.ndim > 1 and mask.shape[-1] > 1:
        if "groups" in takes:
            given.setdefault("groups", _rows(lead, targets.device)[mask])
        elif keeps_apart:
            raise MetricgradError(
                f"metric {name!r} looks at rows or columns of {tuple(lead)} targets, which a mask over single "
                "entries takes apart; mask whole rows, or pass scores[mask] and targets[mask] to pool the entries"
            )
    if "head_sizes" in given:
        given["head_sizes"] = for_each_target(given["head_sizes"], lead)
    for key in given:
        given[key] = _aligned(key, given[key], lead, mask, len(targets))
    return stack, targets, given


def for_each_target(value: Tensor, lead: torch.Size) -> Tensor:
    """One head size for each image as one for each of its key points; others as they are."""
    if isinstance(value, Tensor) and value.shape == lead[: value.ndim] and value.ndim < len(lead):
        return value.reshape(*value.shape, *(1,) * (len(lead) - value.ndim)).expand(lead)
    return value


def _rows(shape: torch.Size, device: torch.device) -> Tensor:
    """The number of the row that each entry of the last axis belongs to."""
    rows = torch.arange(shape[:-1].numel(), device=device)
    return rows.reshape(*shape[:-1], 1).expand(shape)


def _aligned(name: str, value: Tensor, lead: torch.Size, mask: Tensor | None, rows: int) -> Tensor:
    """Bring a tensor shaped like the leading axes of the targets to ``(rows,)``, as the targets were."""
    check_tensor(name, value)
    if mask is not None and value.shape[: mask.ndim] == mask.shape:
        value = value[mask]
    if value.ndim > 1 and value.shape == lead[: value.ndim]:
        value = value.reshape(-1)
    if value.shape != (rows,):
        raise MetricgradError(
            f"{name} has shape {tuple(value.shape)} where the batch has {rows} rows; expected one value for each row, "
            f"of shape ({rows},) or like the leading axes of the targets"
        )
    return value
