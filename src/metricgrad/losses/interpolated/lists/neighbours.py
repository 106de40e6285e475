"""Metrics of embeddings in closed form: each row's list of the others, by similarity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from metricgrad.functional.cosines import unit_rows
from metricgrad.functional.kernels import Kernel
from metricgrad.functional.leak import LEAK
from metricgrad.losses.given_gradient import GivenGradient
from metricgrad.losses.interpolated.lists.list_losses import whole
from metricgrad.losses.interpolated.lists.list_secants import ListSecants
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch


@dataclass(frozen=True)
class NeighbourLoss:
    """The loss of one batch.

    Attributes:
        loss: 0-d, how far the metric at the soft order of each row's list is from its ideal; None where no row has
            another of its class.
        away: how far the metric itself is.
        informs: whether any move changes it.
    """

    loss: Tensor | None
    away: float
    informs: bool


def neighbour_loss(
    path: OfCounts, parameters: dict[str, Any], batch: Batch, softness: Tensor, *, q: float, share: float
) -> NeighbourLoss:
    """Of a metric that is a mean over rows.

    Args:
        path: of the list of one row.
        parameters: the metric's own.
        batch: embeddings ``(N, D)`` with graph, and their classes.
        softness: 0-d, of cosines.
        q: tail exponent in (0, 1].
        share: the share of the pairs of rows of different classes looked at, the most similar ones first.
    """
    lists, kernel, dtype = _lists(batch.targets), Kernel((0.0, q), slope=1 - q), batch.scores.dtype
    similar = lists.of(batch.scores)
    values = similar / softness
    with torch.no_grad():
        hard = _without_rounding(similar) / softness
        secants = ListSecants(
            lists, hard, path, parameters, dtype, width=whole, kernel=kernel, share=share, leak=kernel.slope < LEAK
        )
        read = torch.stack([secants.informs, secants.now, secants.ideal, secants.excess(values.to(dtype))])
    informs, now, ideal, excess = read.tolist()
    if not math.isfinite(ideal):
        return NeighbourLoss(None, 0.0, False)
    shown = ideal - now + excess
    shown = shown if shown > 0 else ideal - now  # a first-order value may leave the metric's range

    def again(values: Tensor, _: object) -> Tensor:
        return torch.autograd.grad(secants.loss(values), values, create_graph=True)[0]

    loss = cast(Tensor, GivenGradient.apply(shown, secants.gradient.to(values.dtype), again, values))
    return NeighbourLoss(loss.to(dtype), ideal - now, informs > 0)


def has_pairs(targets: Tensor) -> bool:
    """Whether any row has another of its class."""
    return len(targets.unique()) < len(targets)


def _lists(targets: Tensor) -> RankedLists:
    same = targets[:, None] == targets
    return RankedLists(_similar, same, torch.eye(len(targets), dtype=torch.bool, device=targets.device))


def _similar(embeddings: Tensor) -> Tensor:
    """``(N, N)`` cosines in double precision."""
    units = unit_rows(wide(embeddings))
    return units @ units.mT


def _without_rounding(similar: Tensor) -> Tensor:
    """Those that differ by rounding alone made equal, as for the metrics."""
    grid = 2.0**40 if similar.dtype == torch.float64 else 2.0**20
    return (similar * grid).round() / grid
