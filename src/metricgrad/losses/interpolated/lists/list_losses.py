"""Metrics of ranked lists as losses in closed form: of one list with what is remembered of it, or of many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.constants import filled
from metricgrad.losses.base import CallContext
from metricgrad.losses.interpolated.lists.list_secants import ListSecants
from metricgrad.losses.interpolated.lists.rank_pairs import RankPairs
from metricgrad.losses.interpolated.lists.rank_secants import RankSecants
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.secants import Secants, Sides
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.losses.interpolated.lists.weighted_secants import WeightedSecants
from metricgrad.losses.interpolated.memory import Memory
from metricgrad.losses.interpolated.twin import Twin
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.metrics.of_pairs import OfLists, OfPairs
from metricgrad.refactoring.batch import Batch


@dataclass(frozen=True)
class ListLoss:
    """The loss of one batch.

    Attributes:
        gradient: in the scores.
        loss: as a function of the scores.
        informs: 0-d boolean, whether any move changes the metric.
        now: the metric of the batch, a number or 0-d.
        ideal: likewise of ideal scores.
        cross_entropy: the gradient of cross-entropy, where targets are classes.
    """

    gradient: Tensor
    loss: Callable[[Tensor], Tensor]
    informs: Tensor
    now: Tensor | float
    ideal: Tensor | float
    cross_entropy: Tensor | None


class OneList:
    """The secants of one list over a memory of scores.

    Args:
        memory: of scores.
        twin: of the metric.
        calls: of a metric that is not known as a function of counts.
    """

    def __init__(self, memory: Memory, twin: Twin, calls: int) -> None:
        self._memory, self._twin, self._calls = memory, twin, calls

    def of(self, batch: Batch, *, step: int, keep: bool, called: Callable[[Batch], Tensor]) -> ListLoss | None:
        """Of a batch of ``(N,)`` scores; None where neither it nor the memory has both positives and negatives.

        Args:
            batch: without context.
            step: of training.
            keep: whether to remember the batch, and to compare the twin.
            called: what the metric itself says of a batch.
        """
        scores, n, twin = batch.scores.detach(), len(batch.scores), self._twin
        known, targets = self._memory.unweighted(scores, batch.targets, keep=keep)
        positive = targets > 0
        *before, total = positive.cumsum(0)[len(known) - n - 1 :: n].tolist()  # of all rows but the batch's, and of all
        ups = total - sum(before)
        if not 0 < total < len(known):
            return None
        sides = Sides.of(known, positive, (total, len(known) - total), (ups, n - ups))
        if 0 < ups < n and keep and twin.due(step) and isinstance(twin.path, OfCounts):
            twin.compare((twin.path.of_scores(*sides.last, **twin.options),), lambda: called(batch)[:1])
        secants = Secants(twin, sides, self._calls)
        path = twin.path
        if isinstance(path, OfCounts) and 0 < ups < n:
            now, ideal = path.of_scores(*sides.last, **twin.options), path.ideal(ups, n - ups, **twin.options)
        else:
            now, ideal = called(batch).tolist()
        past = known[:-n]

        def loss(scores: Tensor) -> Tensor:
            return secants.loss(torch.cat([past.to(scores), scores]))

        gradient = secants.gradient()[-n:].to(scores.dtype)
        return ListLoss(gradient, loss, secants.slopes.any(), now, ideal, cross_entropy_gradient(scores, batch.targets))


def agrees(twin: Twin, path: OfLists, lists: Sequence[RankedLists], batch: Batch, call: CallContext) -> bool:
    """Whether the twin of a foreign metric has its value here, where it is time to look.

    Args:
        twin: of the metric.
        path: of one list.
        lists: of the batch.
        batch: where they come from.
        call: of the loss.
    """
    metric = twin.metric
    if not metric.batched and batch.targets.ndim == 1 and batch.scores.shape[1:] == (2,):
        return False  # of two classes a foreign metric may take the second alone
    if call.counts and twin.due(call.step) and not _ties_anyhow(path, batch.scores):
        try:
            theirs = batch.values(metric, batch.scores.detach()[None])
        except MetricgradError:
            return True  # undefined on this batch
        twin.compare((many_lists(path, twin.options, batch, lists, q=None).now,), lambda: theirs)
    return not twin.left


def _ties_anyhow(path: OfLists, scores: Tensor) -> bool:
    """Whether scores tie in a metric for which it is a convention which of them comes first."""
    return isinstance(path, OfCounts) and path.orders_ties and len(scores.unique()) < scores.numel()


def many_lists(
    path: OfLists, parameters: dict[str, Any], batch: Batch, lists: Sequence[RankedLists], *, q: float | None
) -> ListLoss:
    """The secants of many lists.

    Args:
        path: of the metric of one list.
        parameters: the metric's own.
        batch: where the lists come from.
        lists: of relevant items and others, where the path is one of counts; those of like length together.
        q: None for the secants of :mod:`metricgrad.losses.interpolated.lists.secants`; otherwise those of
            :mod:`metricgrad.refactoring.ranking.passing` with this tail exponent.
    """
    dtype = batch.scores.dtype
    soft = Softening(dtype) if q is None else Softening.with_tail(dtype, q)
    with torch.enable_grad():
        leaf = batch.scores.detach().requires_grad_()
        ranked = [some.of(leaf) for some in lists]
    each = [
        secants_of(path, parameters, some, -values.detach(), soft) for some, values in zip(lists, ranked, strict=True)
    ]
    joined = Joined.of(each)
    gradients = [joined.shared(part, place).to(ranked[place]) for place, part in enumerate(s.gradient for s in each)]
    (gradient,) = torch.autograd.grad(ranked, leaf, gradients)
    standard = cross_entropy_gradient(leaf.detach(), batch.targets, batch.context.get("sample_weight"))

    def loss(scores: Tensor) -> Tensor:
        parts = [secants.loss(some.of(scores)) for some, secants in zip(lists, each, strict=True)]
        return torch.stack([joined.shared(part, place) for place, part in enumerate(parts)]).sum()

    return ListLoss(gradient, loss, joined.informs, joined.now, joined.ideal, standard)


@dataclass(frozen=True)
class Joined:
    """Secants of several buckets of lists as those of all.

    Attributes:
        shares: ``(B,)`` what the lists of each bucket weigh in the mean; None of one bucket.
        informs: as of :class:`ListSecants`, as for all else.
        now: 0-d.
        ideal: 0-d.
    """

    shares: Tensor | None
    informs: Tensor
    now: Tensor
    ideal: Tensor

    @classmethod
    def of(cls, each: Sequence[ListSecants | RankSecants | WeightedSecants | RankPairs]) -> Joined:
        """Of one bucket or more."""
        if len(each) == 1:
            return cls(None, each[0].informs, each[0].now, each[0].ideal)
        total = torch.stack([one.total for one in each])
        shares = total / total.sum()
        values = torch.stack([torch.stack([one.now, one.ideal]) for one in each], 1)
        now, ideal = (values.masked_fill(total <= 0, 0) @ shares).unbind()
        return cls(shares.nan_to_num(), torch.stack([one.informs for one in each]).any(), now, ideal)

    def shared(self, part: Tensor, place: int) -> Tensor:
        """What a bucket's loss or gradient is in that of all."""
        return part if self.shares is None else part * self.shares[place]


def cross_entropy_gradient(scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor | None:
    """Its gradient in the scores, where targets are classes.

    Args:
        scores: ``(N, C)`` with ``(N,)`` targets, or of the shape of the targets.
        targets: classes; of the shape of the scores 0 and 1.
        weight: of each row, or of each target; None for ones.
    """
    of_classes = targets.ndim < scores.ndim
    if not of_classes and not is_binary(targets):
        return None
    if weight is None:
        share, less = 1 / targets.numel(), filled(-1 / targets.numel(), 1, scores.dtype, scores.device)
    else:
        share = weight.to(scores.dtype)
        share = share / (share.sum() * (targets.numel() // weight.numel()))
        share = share.view(*weight.shape, *(1,) * (scores.ndim - weight.ndim))
        less = -share
    if of_classes:
        found = scores.softmax(1).mul_(share)
        return found.scatter_add_(1, targets.long()[:, None], less.expand(len(targets), 1))
    targets = targets.byte() if targets.dtype == torch.bool else targets
    return scores.sigmoid().sub_(targets).mul_(share)


def secants_of(
    path: OfLists,
    parameters: dict[str, Any],
    lists: RankedLists,
    depth: Tensor,
    soft: Softening,
) -> ListSecants | RankSecants | WeightedSecants | RankPairs:
    """Of ``(L, M)`` values turned round, without a gradient."""
    if isinstance(path, OfPairs):
        return RankPairs(lists, depth, path, parameters, soft)
    if isinstance(path, OfCounts):
        return (ListSecants if lists.mass is None else WeightedSecants)(lists, depth, path, parameters, soft)
    return RankSecants(lists, depth, path, parameters, soft)
