"""What the hand-made classification losses share: reading one batch, columns one against the rest, checked options."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor, where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import given_names
from metricgrad.metrics.decoding import canonical, kept_items, log_odds
from metricgrad.metrics.families.queries import weights_of_queries
from metricgrad.value_range import are_whole, ranges_of


@dataclass(frozen=True)
class Rows:
    """One batch as a hand-made loss reads it.

    Attributes:
        scores: ``(N,)`` or ``(N, C)`` logits in float32 or float64, with graph.
        targets: ``(N,)`` or ``(N, C)``.
        weight: of each target, in the dtype of the scores; 0 for single entries that are left out, and None where all
            count the same.
        groups: ``(N,)`` the query of each row, or None.
    """

    scores: Tensor
    targets: Tensor
    weight: Tensor | None = None
    groups: Tensor | None = None

    @property
    def elementwise(self) -> bool:
        """Whether scores and targets share their shape."""
        return self.scores.shape == self.targets.shape

    def mean(self, each: Tensor) -> Tensor:
        """0-d weighted mean of a value for each target; a weight of 2 counts as two."""
        return each.mean() if self.weight is None else (each * (self.weight / self.weight.sum())).sum()

    @property
    def weights(self) -> Tensor:
        """The weight of each target, ones where there is none."""
        return torch.ones_like(self.targets, dtype=self.scores.dtype) if self.weight is None else self.weight


def rows_of(
    scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, takes: Collection[str], who: str
) -> Rows:
    """One batch in the package's shapes, of what the mask keeps.

    Args:
        scores: logits, any shape of :mod:`metricgrad.metrics.metric`.
        targets: of any dtype.
        context: what the caller gave.
        takes: what of it is read besides ``mask``.
        who: reads it, for messages.

    Raises:
        MetricgradError: for shapes that do not fit, and for context that is not taken or not valid.
    """
    check_tensor("scores", scores)
    stack, kept, given, place = kept_items(
        scores[None] if scores.ndim else scores, targets, context, takes=takes, who=who
    )
    weight = given.get("sample_weight")
    weight = None if weight is None else weight.to(stack.dtype)
    if place is None or not len(place):
        if weight is not None and kept.ndim > 1:
            weight = weight[:, None].expand(kept.shape)
        return Rows(stack[0], kept, weight, given.get("groups"))
    # back into columns, which may count each by itself
    table = (targets.shape[:-1].numel(), targets.shape[-1])
    ones = torch.ones_like(stack[0]) if weight is None else weight
    full = [x.new_zeros(targets.numel()).index_copy(0, place, x).reshape(table) for x in (stack[0], kept, ones)]
    return Rows(*full)


def as_labels(rows: Rows) -> Rows:
    """The batch with ``(N,)`` int64 classes, or with 0/1 targets of the shape and dtype of the scores.

    Raises:
        MetricgradError: for targets that are no labels.
    """
    targets = rows.targets
    if targets.numel():
        classes = 2 if rows.elementwise else rows.scores.shape[-1]
        if not (ranges_of(targets)[0].within(0, classes - 1) and are_whole(targets)):
            if found := where_not_finite(targets):
                raise MetricgradError(f"targets hold {found}; leave those rows out with a mask")
            raise MetricgradError(
                f"targets of dtype {targets.dtype} have values other than the whole numbers 0 to {classes - 1}; "
                "leave ignored entries and padding out with a mask, or ignore_index= of the metric or the loss, round "
                "soft labels, (targets > 0.5), and give the model a score for each class"
            )
    return dataclasses.replace(rows, targets=targets.to(rows.scores.dtype) if rows.elementwise else targets.long())


def labelled(
    scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, pooled: bool = False
) -> tuple[Tensor, Tensor]:
    """One batch in the package's shapes, with whole targets.

    Args:
        scores: logits, any shape of :mod:`metricgrad.metrics.metric`.
        targets: class numbers from 0 for scores with one more axis, otherwise 0 and 1; integer, boolean or float.
        mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.
        pooled: whether the entries that a mask leaves of ``(N, C)`` targets may be read as one list.

    Returns:
        ``(N,)`` or ``(N, C)`` scores in float32 or float64, and either ``(N,)`` int64 classes or 0/1 targets with the
        shape and dtype of the scores.

    Raises:
        MetricgradError: for other shapes or values, and for a mask over entries that are not to be pooled.
    """
    if not pooled:
        refuse_entries(scores, targets, mask)
    rows = as_labels(Rows(*canonical(scores, targets, mask)))
    return rows.scores, rows.targets


def mask_of(context: Mapping[str, Tensor | None], who: str) -> Tensor | None:
    """The mask of a context, where nothing else is taken of it.

    Raises:
        MetricgradError: where the context has something else.
    """
    given_names(context, (), who)
    return context.get("mask")


def refuse_entries(scores: Tensor, targets: Tensor, mask: Tensor | None) -> None:
    """Refuse a mask over the single entries of several columns.

    Raises:
        MetricgradError: naming the remedy.
    """
    if not isinstance(mask, Tensor) or mask.ndim < 2 or mask.shape != targets.shape or targets.shape[-1] == 1:
        return
    if scores.shape in (targets.shape, (*targets.shape, 1)):
        raise MetricgradError(
            f"mask leaves single entries of {tuple(targets.shape)} targets out, and this loss reads whole columns; "
            "mask whole rows, shaped (N,)"
        )


OfList = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mean_of_lists(loss: OfList, rows: Rows) -> Tensor:
    """The mean, over columns one against the rest or over queries, of a loss of one list.

    Lists without a positive or without a negative are left out; where none is left the value is zero with a zero
    gradient. Class scores are ranked by their log-odds, as the metrics rank them.

    Args:
        loss: of ``(M,)`` scores, booleans, and weights above 0 or None.
        rows: with labels. Weights are those of rows, or of queries where there are any: their mean is then weighted.

    Raises:
        MetricgradError: for queries of (N, C) scores, or weights that differ within a query.
    """
    if not rows.targets.numel():
        return (rows.scores * 0).sum()
    if rows.groups is not None:
        return _mean_of_queries(loss, rows, rows.groups)
    scores, targets, weight = rows.scores, rows.targets, rows.weight
    if not rows.elementwise:
        scores, targets = log_odds(scores, False).to(scores.dtype), nn.functional.one_hot(targets, scores.shape[1])
        weight = None if weight is None else weight[:, None].expand(targets.shape)
    positive = (targets > 0).reshape(len(scores), -1)
    columns = scores.reshape(positive.shape)
    if weight is None:
        mixed = (positive.any(0) & ~positive.all(0)).nonzero()[:, 0].tolist()
        values = [loss(columns[:, c], positive[:, c], None) for c in mixed]
    else:
        weight = weight.reshape(positive.shape)
        kept = weight > 0
        mixed = ((positive & kept).any(0) & (~positive & kept).any(0)).nonzero()[:, 0].tolist()
        values = [loss(*(x[:, c][kept[:, c]] for x in (columns, positive, weight))) for c in mixed]
    return torch.stack(values).mean() if values else (rows.scores * 0).sum()


def _mean_of_queries(loss: OfList, rows: Rows, groups: Tensor) -> Tensor:
    if rows.scores.ndim > 1:
        raise MetricgradError("each column of (N, C) scores is a list by itself; leave groups out")
    _, which, sizes = groups.unique(return_inverse=True, return_counts=True)
    positive = rows.targets > 0
    found = torch.zeros_like(sizes).index_add(0, which, positive.long())
    weight = rows.scores.new_ones(len(sizes)) if rows.weight is None else weights_of_queries(rows.weight, groups)
    mixed = (found > 0) & (found < sizes) & (weight > 0)
    if not bool(mixed.any()):
        return (rows.scores * 0).sum()
    lists = which.argsort(stable=True).split(sizes.tolist())
    values = [
        loss(rows.scores[own], positive[own], None) for own, asked in zip(lists, mixed.tolist(), strict=True) if asked
    ]
    share = weight[mixed].to(rows.scores.dtype)
    return (torch.stack(values) * (share / share.sum())).sum()


def checked_number(name: str, value: object, *, zero: bool = False, most: float = math.inf) -> float:
    """A finite option above 0 (from 0 where ``zero``) and up to ``most``.

    Raises:
        MetricgradError: naming the option.
    """
    number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    if math.isfinite(number) and (number > 0 or (zero and number == 0)) and number <= most:
        return number
    low = "from 0" if zero else "above 0"
    high = "" if math.isinf(most) else f" up to {most:g}"
    raise MetricgradError(f"{name} is {value!r}; expected a finite number {low}{high}")


def checked_whole(name: str, value: object, *, least: int | None = None) -> int:
    """A whole-number option, ``least`` or more.

    Raises:
        MetricgradError: naming the option.
    """
    if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
        return value
    raise MetricgradError(f"{name} is {value!r}; expected a whole number{'' if least is None else f' from {least}'}")
