"""One batch, checked and in the shapes a refactoring reads: the only place where a loss looks at raw input."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from metricgrad.checks import check_tensor, where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import PARTS
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.families.queries import weights_of_queries
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide_dtype
from metricgrad.refactoring.strata import samples_of
from metricgrad.value_range import known_as, look_at, ranges_of


@dataclass(frozen=True)
class Frame:
    """Where entries that are seen as one list lie in the batch that the metric is called on.

    Attributes:
        mask: ``(N, ...)`` booleans in the shape of the targets: the entries of the list, in this order.
        targets: ``(N, ...)`` of the whole batch.
    """

    mask: Tensor
    targets: Tensor

    def whole(self, stack: Tensor) -> Tensor:
        """``(T, N, ...)`` or ``(T, N, ..., C)`` from ``(T, K)`` or ``(T, K, C)``, differentiably; zeros elsewhere."""
        if stack.shape[1] == self.mask.numel():
            return stack.reshape(len(stack), *self.mask.shape, *stack.shape[2:])
        flat = stack.new_zeros(len(stack), self.mask.numel(), *stack.shape[2:])
        flat = flat.index_copy(1, self.mask.reshape(-1).nonzero()[:, 0], stack)
        return flat.reshape(len(stack), *self.mask.shape, *stack.shape[2:])

    def samples(self) -> Tensor:
        """``(K,)``: the index on the first axis of each entry."""
        return samples_of(self.mask.shape, self.mask.device)[self.mask.reshape(-1)]


_ROOM = 2.0**16


@dataclass(frozen=True)
class Batch:
    """Scores (float32 or float64, with graph) and targets that a refactoring reads, and the context of the metric.

    Attributes:
        scores: in the metric's layout; under a mask that the metric takes, the list of what is kept.
        targets: likewise.
        context: what the metric takes.
        frame: where the entries of such a list lie; None where there is no such mask.
        order: where the rows come in another order than the metric is called in, that order.
    """

    scores: Tensor
    targets: Tensor
    context: dict[str, Tensor]
    frame: Frame | None = None
    order: RowOrder | None = None

    @property
    def groups(self) -> Tensor | None:
        """The query of each item, or the row, column or sample it came from where those are lists by themselves."""
        found = self.of_items("groups")
        if found is None and self.frame is not None:
            return self.frame.samples()
        return self.context.get(PARTS) if found is None else found

    def of_items(self, name: str) -> Tensor | None:
        """What the context has of a name for each item of the scores."""
        found = self.context.get(name)
        if found is None or self.frame is None:
            return found
        mask = self.frame.mask
        return found.reshape(*found.shape, *(1,) * (mask.ndim - found.ndim)).expand(mask.shape)[mask]

    def as_called(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        """``(T, ...)`` score sets as the metric takes them, with its targets."""
        return (stack, self.targets) if self.frame is None else (self.frame.whole(stack), self.frame.targets)

    def values(self, metric: Metric, stack: Tensor, *, finite: bool = False) -> Tensor:
        """``(T,)`` values of ``(T, *scores.shape)`` score sets for the batch's targets.

        Args:
            metric: as which it is checked.
            stack: of score sets.
            finite: whether they are known to be; then what is found keeps its dtype, and no device is waited for.
        """
        if self.order is not None:
            return self.order.called.values(metric, stack[:, self.order.inverse], finite=finite)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a foreign metric complains of score sets that are odd on purpose
            scores, targets = self.as_called(stack)
            return (metric.of_finite if finite else metric.over)(scores, targets, **self.context)

    def structure(self, known: Structure) -> Structure:
        """What is known of a metric, said of this batch: a mask tells entries apart, and of (N, T) rows are samples."""
        if self.frame is None:
            return known
        within, params = known.params.get("within"), known.params
        if self.scores.ndim == 1 and within in ("row", "column"):
            if within == "column" or self.frame.mask.ndim > 2:
                raise MetricgradError(
                    f"the metric ranks within each {within}, which a mask over single entries takes apart; mask whole "
                    f"rows with a mask of shape ({len(self.frame.mask)},)"
                )
            params = {"within": "sample"}
        return Structure(known.kind, "none", params)


@dataclass(frozen=True)
class RowOrder:
    """The order of rows in which the metric is called.

    Attributes:
        called: the batch in that order.
        inverse: ``(N,)`` where each of its rows stands in the batch that has this order.
    """

    called: Batch
    inverse: Tensor


def checked(
    metric: Metric, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, check_finite: bool
) -> Batch:
    """Check one batch and bring it to the shapes of the metric's layout.

    Half precision is computed in float32.

    Raises:
        MetricgradError: for scores that are no floating tensor or not finite, labels out of range, or shapes that do
            not fit; the message names the argument and the remedy.
    """
    check_tensor("scores", scores)
    check_tensor("targets", targets)
    if not scores.is_floating_point():
        raise MetricgradError(f"scores must be a floating tensor of logits, got {scores.dtype}")
    # classes of embeddings may be any numbers
    look_at(scores, *context.values(), *(() if metric.layout.of_embeddings else (targets,)))
    context = _without_weightless(metric, targets, context)
    stack, targets, kept = metric.prepared(scores[None] if scores.ndim else scores, targets, context)
    whole = context.get("mask") is None
    if whole:
        known_as(scores, stack)
    as_given = whole and stack.shape[1:] == scores.shape and stack.dtype == scores.dtype
    scores, frame = scores if as_given else stack[0], None
    if "mask" in kept:
        mask = kept["mask"]
        mask = mask.reshape(*mask.shape, *(1,) * (targets.ndim - mask.ndim)).expand(targets.shape)
        frame = Frame(mask, targets)
        scores, targets = scores[mask], targets[mask]
    if found := where_not_finite(targets):
        raise MetricgradError(f"targets hold {found}; leave such rows out with mask=")
    scores = _finite(scores, check_finite)
    if not metric.layout.of_decisions:
        metric.layout.check(scores, targets, metric.name)
    elif scores.ndim > targets.ndim and targets.numel():
        low, high = ranges_of(targets)[0]
        if low < 0 or high >= scores.shape[-1]:
            raise MetricgradError(
                f"targets hold classes {low:.0f} to {high:.0f}, scores have {scores.shape[-1]} columns; expected 0 to "
                f"{scores.shape[-1] - 1} (leave padding out with mask=, or ignore_index= of the metric or the loss)"
            )
    elif _is_binary(metric) and not is_binary(targets):
        raise MetricgradError(
            f"metric {metric.name!r} expects targets of 0 and 1 shaped like the scores, got values from "
            f"{float(targets.min()):g} to {float(targets.max()):g}; make them 0 and 1, as (targets > 0), or pass "
            "(N, C) scores for classes and grades"
        )
    else:
        metric.checked_targets(scores[None], targets)
    return Batch(scores, targets, kept, frame)


def bounded_batch(
    metric: Metric, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, check_finite: bool
) -> Batch:
    """As :func:`checked`, with infinite scores as ever larger ones than all others; NaN is let through."""
    batch = checked(metric, scores, targets, context, check_finite=check_finite)
    (span,) = ranges_of(batch.scores)
    if span.finite or span.has_nan:
        return batch
    most = torch.finfo(batch.scores.dtype).max ** 0.75  # sums of differences over the softness stay finite
    return replace(batch, scores=batch.scores.clamp(-most, most))


def _without_weightless(
    metric: Metric, targets: Tensor, context: Mapping[str, Tensor | None]
) -> Mapping[str, Tensor | None]:
    """The context, with rows of weight 0 masked where the metric ranks: nothing is gained by passing them."""
    weight, mask, known = context.get("sample_weight"), context.get("mask"), metric.structure
    if isinstance(weight, Tensor):
        check_tensor("sample_weight", weight)
    ranks = known is not None and known.kind in ("ranking", "positives_over_negatives") and metric.layout.of_rows
    if not ranks or "mask" in metric.context or not isinstance(weight, Tensor) or weight.shape != targets.shape[:1]:
        return context
    if mask is not None or weight.is_complex():
        return context
    low, high = ranges_of(weight)[0]
    if low != 0 or high <= 0:  # what is no weight at all is refused later
        return context
    groups = context.get("groups")
    if isinstance(groups, Tensor) and (groups.shape, groups.device) == (weight.shape, weight.device):
        weights_of_queries(weight, groups)  # a query is left out as a whole
    return {**context, "mask": weight != 0}


def with_room(batch: Batch, softness: float) -> Batch:
    """The batch, in float64 where float32 is too narrow for its scores in units of the softness; NaN stands for 1.

    Gradients come back in float32, those beyond its range as its largest number.
    """
    scores = batch.scores
    if scores.dtype != torch.float32 or wide_dtype(scores.device) == torch.float32:
        return batch
    room = _ROOM * (1.0 if math.isnan(softness) else softness)
    if ranges_of(scores)[0].within(-room, room):
        return batch
    return replace(batch, scores=cast(Tensor, _Widened.apply(scores)))


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(scores: Tensor) -> Tensor:
        return scores.double()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        most = torch.finfo(ctx.dtype).max
        return grads[0].clamp(-most, most).to(ctx.dtype)


def _finite(scores: Tensor, check: bool) -> Tensor:
    if check and (found := where_not_finite(scores)):
        raise MetricgradError(
            f"scores hold {found}; look at the inputs of those rows first; where they are finite, lower the learning "
            "rate (check_finite=False lets such scores through, for loss scaling in float16)"
        )
    return scores


def _is_binary(metric: Metric) -> bool:
    return metric.structure is not None and metric.structure.kind == "labels"
