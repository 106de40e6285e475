"""What comes along with a batch: masks, query groups, weights; brought to the rows that the metric sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import CONTEXT, PARTS
from metricgrad.metrics.decoding import kept_items
from metricgrad.metrics.types import Apart


def context_of(fn: Callable[..., Any]) -> frozenset[str]:
    """The context that a callable's signature names."""
    try:
        names = signature(fn).parameters
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(name for name in CONTEXT if name in names)


def prepare(
    stack: Tensor,
    targets: Tensor,
    context: Mapping[str, Tensor | None],
    *,
    takes: frozenset[str],
    keeps_apart: Apart | None,
    name: str,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Canonical scores and targets, and the context as one value for each row.

    A mask over the single entries of ``(N, C)`` targets leaves one list of entries. A metric that takes rows or columns
    each by itself then gets the row of each entry as ``groups`` or the row or column as ``parts``.

    Args:
        stack: ``(T, ...)`` logits.
        targets: of one batch, in any of the accepted shapes.
        context: what the caller gave; None counts as not given.
        takes: the names the metric takes besides ``mask``.
        keeps_apart: what the metric takes each by itself, as far as that is known.
        name: the metric's, for messages.
    """
    lead = targets.shape if isinstance(targets, Tensor) else torch.Size()
    stack, targets, given, place = kept_items(stack, targets, context, takes=takes, who=f"metric {name!r}")
    if PARTS in given and stack.ndim > 2:
        raise MetricgradError(f"metric {name!r}: {PARTS} belong to one list of entries, not to (N, C) scores")
    if place is None:
        return stack, targets, given
    row, column = place // lead[-1], place % lead[-1]
    if PARTS in takes:  # also where all entries count together: no list of single labels is what they came from
        given[PARTS] = row if keeps_apart == "row" else column
    elif "groups" in takes and keeps_apart is not None:
        if "groups" in given:
            raise MetricgradError("each row of (N, C) scores is a query by itself; leave groups out")
        given["groups"] = row
    elif keeps_apart is not None:
        raise MetricgradError(
            f"metric {name!r} looks at rows or columns of {tuple(lead)} targets, which a mask over single "
            "entries takes apart; mask whole rows, take a built-in metric such as 'micro_f1', or pass scores[mask] and "
            "targets[mask] to pool the entries as one list"
        )
    return stack, targets, given
