"""Which rows a decision is fitted on."""

from __future__ import annotations

from torch import Tensor

from metricgrad.metrics.context import weights_of_items

Context = dict[str, Tensor | None]


def of_rows(context: Context, rows: Tensor) -> Context:
    """The context of some rows."""
    return {name: value[rows] if isinstance(value, Tensor) else value for name, value in context.items()}


def kept_rows(scores: Tensor, targets: Tensor, context: Context) -> tuple[Tensor, Tensor, Context]:
    """What a mask of rows leaves, with a weight for each row; a mask of single entries stays in the context."""
    context = {name: value for name, value in weights_of_items(context).items() if value is not None}
    mask = context.get("mask")
    if mask is None or mask.shape != targets.shape[:1]:
        return scores, targets, context
    del context["mask"]
    return scores[mask], targets[mask], of_rows(context, mask)
