"""A metric of ranked lists at their soft orders, in closed form: what local interpolation makes of it by calls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from metricgrad.losses.given_gradient import GivenGradient
from metricgrad.losses.interpolated.lists.list_losses import secants_of
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.metrics.of_pairs import OfLists
from metricgrad.on_host import read
from metricgrad.refactoring.batch import Batch


@dataclass(frozen=True)
class SoftLists:
    """The loss of one batch.

    Attributes:
        loss: 0-d, how far the metric at the soft orders is from its ideal; None where it is undefined.
        away: how far the metric itself is.
        informs: whether any move changes it.
        tied: whether items tie that are not worth the same; False where it was not asked.
    """

    loss: Tensor | None
    away: float
    informs: bool
    tied: bool


def soft_lists(
    path: OfLists,
    parameters: dict[str, Any],
    batch: Batch,
    lists: RankedLists,
    softness: Tensor | float,
    *,
    q: float,
    share: float = 1.0,
    bounded: bool = True,
) -> SoftLists:
    """Of the mean over lists.

    Args:
        path: of one list.
        parameters: the metric's own.
        batch: scores with graph.
        lists: of them.
        softness: of what is ranked, 0-d where its gradient is asked for.
        q: tail exponent in (0, 1].
        share: the share of the negatives looked at, the highest ones; 1 where all items add by their rank.
        bounded: whether scores may order the lists in any way, as embeddings do not: the value is at most that of the
            lists turned round, and what ties is asked for.
    """
    dtype, ranked = batch.scores.dtype, lists.of(batch.scores)
    with torch.no_grad():
        depth = lists.taken(ranked.detach()) / -softness
    steepness = 1.0
    if isinstance(softness, Tensor):
        ranked = ranked / softness
    else:
        steepness = 1 / softness
    with torch.no_grad():
        soft = Softening.with_tail(dtype, q, share=share, valued=True, steepness=steepness)
        secants = secants_of(path, parameters, lists, depth, soft)
        numbers = [secants.informs, secants.now, secants.ideal, secants.excess]
        informs, now, ideal, excess, *more = read(numbers + ([secants.worst, secants.tied] if bounded else []))
        worst, tied = more or (ideal, 0.0)
    if not math.isfinite(ideal):
        return SoftLists(None, 0.0, False, False)
    shown = ideal - now + excess  # a first-order value may leave the metric's range
    shown = shown if shown > 0 else ideal - now
    if ideal > worst:
        shown = min(shown, max(ideal - worst, ideal - now))

    def again(ranked: Tensor, _: object) -> Tensor:
        value = secants.loss((ranked * steepness).to(dtype))
        return torch.autograd.grad(value, ranked, create_graph=True)[0]

    loss = cast(Tensor, GivenGradient.apply(shown, secants.gradient, again, ranked))
    return SoftLists(loss, ideal - now, informs > 0, tied > 0)
