"""How a batch is laid out: rows, as it was given, heat maps, the words of sentences, or the ends of answer spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from metricgrad.metrics.context import Apart, prepare
from metricgrad.metrics.given import prepare_given
from metricgrad.metrics.maps import prepare_maps
from metricgrad.metrics.passages import prepare_spans
from metricgrad.metrics.sequences import prepare_sequences

#: Of scores and targets: rows, as in :mod:`metricgrad.metric`; as they were given; ``(..., H, W)`` and ``(..., 2)``
#: points; ``(N, T, V)`` and ``(N, T)`` words, not pooled; ``(N, 2, L)`` and ``(N, 2)`` first and last tokens.
Layout = Literal["rows", "given", "maps", "sentences", "spans"]


def prepare_as(
    layout: Layout,
    stack: Tensor,
    targets: Tensor,
    context: Mapping[str, Tensor | None],
    *,
    takes: frozenset[str],
    keeps_apart: Apart | None,
    name: str,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Score sets and targets in the shapes of their layout, checked, and the context as one value for each row.

    Args:
        layout: of the batch.
        stack: ``(S, ...)`` score sets.
        targets: of one batch, shared by all sets.
        context: what the caller gave; None counts as not given.
        takes: the names the metric takes; ``mask`` among them only where it wants the mask itself.
        keeps_apart: of rows: whether the metric takes rows or columns of ``(N, C)`` targets each by itself.
        name: the metric's, for messages.

    Raises:
        MetricgradError: for shapes, values or context that do not fit the layout.
    """
    if layout == "given":
        return prepare_given(stack, targets, context, takes=takes, name=name)
    if layout == "maps":
        return prepare_maps(stack, targets, context, takes=takes, name=name)
    if layout == "sentences":
        return prepare_sequences(stack, targets, context, takes=takes, name=name)
    if layout == "spans":
        return prepare_spans(stack, targets, context, takes=takes, name=name)
    return prepare(stack, targets, context, takes=takes, keeps_apart=keeps_apart, name=name)
