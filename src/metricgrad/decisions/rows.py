"""Which rows a decision is fitted on, and in which parts they are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import weights_of_items
from metricgrad.metrics.layouts.class_targets import ClassDim, axis_of
from metricgrad.metrics.layouts.layout import ROWS
from metricgrad.metrics.metric import Metric

Context = dict[str, Tensor | None]

PARTS = 10
MOST_ROWS = 200_000
"""Of pixels or tokens: beyond as many a decision of some hundred numbers gets no better, and takes minutes."""


@dataclass(frozen=True)
class ValidationRows:
    """A validation part as decisions are fitted on it: classes last, without what is ignored.

    Attributes:
        scores: ``(R,)``, ``(R, C)``, or ``(N, ...)`` images of one yes or no a pixel; finite, without a gradient.
        targets: theirs.
        context: what the metric takes beside.
        class_dim: the axis that the classes were on.
        items: ``(R,)`` which image or sentence each row is of, where they were taken apart into rows; else None.
    """

    scores: Tensor
    targets: Tensor
    context: Context
    class_dim: ClassDim
    items: Tensor | None = None

    @classmethod
    def of(
        cls, metric: Metric, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], seed: int
    ) -> Self:
        """Of a batch as the metric takes it; of more than :data:`MOST_ROWS` pixels or tokens so many, drawn.

        Raises:
            MetricgradError: for what the metric refuses, and for scores that are not finite.
        """
        for name, value in (("scores", scores), ("targets", targets)):
            if not isinstance(value, Tensor):
                raise MetricgradError(
                    f"{name} must be a tensor, got {type(value).__name__}: pass torch.as_tensor({name})"
                )
        metric(scores, targets, **context)  # shapes, context and what it refuses
        classes = replace(metric.class_targets, pos_label=None)  # what is decided on are the scores as they come
        axis = axis_of(scores.shape, targets.shape, classes.class_dim)
        of_classes = scores.ndim == targets.ndim + 1 and scores.shape[axis] > 1
        found: Context = {name: value for name, value in weights_of_items(context).items() if value is not None}
        pooled = metric.layout == ROWS and targets.ndim > (1 if of_classes else 2)
        apart = pooled and of_classes
        if classes.ignore_index is None or pooled:
            scores, targets, found = classes.read(scores, targets, found)
        else:
            scores, targets, *rest = classes.pairs(scores, targets, **found)
            found = dict(zip([name for name in found if name != "mask"], rest, strict=True))
        scores = scores.detach()
        if scores.ndim == targets.ndim + 1 and scores.shape[-1] == 1:
            scores = scores[..., 0]
        items = None
        if apart:
            scores, targets, found, items = _taken_apart(scores, targets, found, seed)
        else:
            scores, targets, found = kept_rows(scores, targets, found)
        mask = found.get("mask")
        if not bool(torch.isfinite(scores if mask is None else scores[mask]).all()):
            raise MetricgradError("scores hold NaN or infinity; a decision is fitted on finite validation scores")
        return cls(scores, targets if targets.is_floating_point() else targets.long(), found, axis, items)

    @property
    def count(self) -> int:
        """How many items there are: rows, or the images or sentences that they are of."""
        return len(self.targets) if self.items is None else len(self.items.unique())

    def folds(self, seed: int) -> Tensor:
        """``(R,)`` tenth of each row, two of which are a fold.

        Shuffled, with every target spread evenly where targets are one label a row; rows of one item stay together.
        """
        device = self.targets.device
        which = self.targets if self.items is None else self.items.unique()
        order = torch.randperm(len(which), generator=torch.Generator().manual_seed(seed)).to(device)
        if self.items is None and which.ndim == 1:
            order = order[which[order].argsort(stable=True)]
        folds = torch.empty(len(which), dtype=torch.long, device=device)
        folds[order] = torch.arange(len(which), device=device) % PARTS
        return folds if self.items is None else folds[torch.searchsorted(which, self.items)]


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


def _taken_apart(
    scores: Tensor, targets: Tensor, context: Context, seed: int
) -> tuple[Tensor, Tensor, Context, Tensor]:  # fmt: skip
    """``(R, C)`` scores of single pixels or tokens, with their targets and context, and which item each is of."""
    items = torch.arange(len(targets), device=targets.device)
    each = {name: value for name, value in context.items() if value is not None} | {"item": items}
    each = {name: value.reshape(*value.shape, *(1,) * (targets.ndim - value.ndim)) for name, value in each.items()}
    each = {name: value.expand(targets.shape).reshape(-1) for name, value in each.items()}
    rows = each.pop("mask", torch.ones(targets.numel(), dtype=torch.bool, device=targets.device)).nonzero()[:, 0]
    if len(rows) > MOST_ROWS:
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS].sort().values
        rows = rows[drawn.to(rows.device)]
    found = of_rows(dict(each), rows)
    item = found.pop("item")
    assert item is not None
    return scores.reshape(-1, scores.shape[-1])[rows], targets.reshape(-1)[rows], found, item
