r"""What negatives above a positive cost a mean over ranked lists whose items weigh differently.

As in :mod:`metricgrad.losses.interpolated.lists.list_secants`, with weights :math:`u_i` of positives and :math:`w_j` of
negatives, in shares of what an item of the list weighs on average:

.. math:: L = \sum_l v_l \sum_i u_{li} \Delta_{li} \sum_j w_{lj} k(t_{lj} - s_{li})

Counts of items become sums of their weights, so an item of weight 2 stands for two. What positive i is worth by a unit
of its weight, :math:`\Delta_i`, takes a unit to be passed from those that it passes; with all weights alike it is that
of lists without weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled, listed
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS
from metricgrad.functional.leak import LEAK, START
from metricgrad.losses.interpolated.lists.pairs import Plan, joined, pulled, total
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.metrics.of_counts import OfCounts

_BUMP = SIGMOID.derivative()


class WeightedSecants:
    """The loss of all lists, linearised where they stand.

    Args:
        lists: what is ranked, with the mass of each item.
        depth: ``(L, M)`` of them, values turned round, in units of the softness and without a gradient.
        path: of the metric of one list, whose items may weigh.
        parameters: the metric's own.
        soft: how pairs are softened.

    Attributes are those of :class:`metricgrad.losses.interpolated.lists.list_secants.ListSecants`.
    """

    def __init__(
        self,
        lists: RankedLists,
        depth: Tensor,
        path: OfCounts,
        parameters: dict[str, Any],
        soft: Softening,
    ) -> None:
        assert lists.mass is not None
        self._path, self._parameters, self._soft, device = path, parameters, soft, depth.device
        there, relevant = lists.mass > 0, lists.relevance > 0
        whole = lists.mass.sum(1, keepdim=True).clamp(min=torch.finfo(lists.mass.dtype).tiny)
        mass = lists.mass * (there.sum(1, keepdim=True) / whole)
        sides = torch.stack([relevant & there, ~relevant])
        others, most = mass * sides[1], max(1, int(sides[0].sum(1).amax()))
        self._plan = Plan.of(most, depth)
        nowhere = filled(torch.inf, 1, depth.dtype, device)
        # side by side, as for a search
        ordered, place = torch.where(sides, depth, nowhere, out=depth.new_empty(sides.shape)).sort(2)
        up, self._place = ordered[0, :, :most].contiguous(), place[0, :, :most]
        down, order = ordered[1], place[1]
        self._there = up < torch.inf
        own = mass.gather(1, self._place) * self._there
        upto, above = (torch.nn.functional.pad(of.cumsum(1), (1, 0)) for of in (own, others.gather(1, order)))
        negatives = above[:, -1:]
        before, level = self._ends = [torch.searchsorted(down, up, right=right) for right in (False, True)]
        ends = above.gather(1, before), above.gather(1, level)
        self._above = middle = torch.lerp(*ends, 0.5)

        each = _values(path, up, own, upto, (middle, ends[1]), negatives, parameters)
        shares, means, self.total = lists.means(each, missing=path.missing)
        self.now, self.ideal, self.worst = means.unbind()

        middle = torch.where(self._there, middle, filled(torch.inf, 1, middle.dtype, device))
        self._others, depth = others.to(soft.dtype), depth.to(soft.dtype)
        of_lists = own, upto, negatives, shares
        some_of = self._plan.parts(len(depth))
        found = [self._linearised(some, depth[some], middle[some], *(of[some] for of in of_lists)) for some in some_of]
        slopes, gradients, excess = zip(*found, strict=True)
        self._slopes, self.gradient, self.excess = joined(slopes), joined(gradients), total(excess)
        self.informs = self._slopes.any()

    def _linearised(
        self, some: slice, depth: Tensor, middle: Tensor, own: Tensor, upto: Tensor, negatives: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes ``(l, P)``, the gradient ``(l, M)`` and the excess of some of the lists."""
        place, others = self._place[some], self._others[some]
        up, both_ways = depth.gather(1, place), listed((-1.0, 1.0), middle.dtype, middle.device)[:, None]
        pairs = self._plan.pairs(up, depth, others)
        surely = self._plan.pairs(up - START, depth, others) if self._soft.leak else None
        reach, nothing = self._soft.width(pairs.near(_BUMP)).clamp(min=1), filled(0.0, 1, depth.dtype, depth.device)
        moved = torch.addcmul(middle[:, None], reach[:, None], both_ways)
        moved = moved.clamp(filled(0.0, 1, moved.dtype, moved.device), negatives[:, None])
        worth = _changes(self._path, middle, moved, own, upto, negatives, self._parameters)
        (less, more), (low, high) = worth.unbind(1), moved.unbind(1)
        slopes = torch.div(shares[:, None] * own * (less - more), high - low, out=torch.empty_like(up))
        slopes = slopes.nan_to_num_(0, 0, 0)
        pull, near = pulled(pairs, surely, slopes, self._soft)
        gradient = pull.scatter_add_(1, place, torch.addcmul(nothing, slopes, near, value=-self._soft.steepness))
        if not self._soft.valued:
            return slopes, gradient, nothing[0]
        return slopes, gradient, (slopes * (pairs.near(self._soft.kernel) - self._above[some])).sum()

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether a positive ties with a negative."""
        return ((self._ends[0] != self._ends[1]) & self._there).any()

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found = []
        for some in self._plan.parts(len(values)):
            depth, slopes = -values[some], self._slopes[some].to(values)
            up, others = depth.gather(1, self._place[some]), self._others[some].to(values)
            found.append((slopes * self._plan.pairs(up, depth, others).near(self._soft.kernel)).sum())
            if self._soft.leak:
                surely = LEAK * (slopes * self._plan.pairs(up - START, depth, others).near(SOFTPLUS)).sum()
                found.append(surely - surely.detach())
        return total(found)


def _values(
    path: OfCounts,
    up: Tensor,
    own: Tensor,
    upto: Tensor,
    above: tuple[Tensor, Tensor],
    negatives: Tensor,
    parameters: dict[str, Any],
) -> Tensor:
    """``(3, L)``: the metric of each list as it is, at its best and at its worst.

    Args:
        path: as in :func:`_changes`, as all else.
        up: ``(L, P)`` depths of the positives.
        own: likewise.
        upto: likewise.
        above: ``(L, P)`` weight of the negatives above each, half or all of those that tie with it.
        negatives: likewise.
        parameters: likewise.
    """
    positives, place, (middle, level) = upto[:, -1:], upto[:, 1:], above
    standing = upto.gather(1, torch.searchsorted(up, up, right=True)) if path.ties == "together" else place
    at = torch.stack([middle if path.ties == "halves" else level, 0 * middle, negatives.expand_as(middle)])
    found = path.at(torch.stack([standing, place, place]), at, positives, negatives, **parameters)
    return (found * own).sum(2) / positives.mT


def _changes(
    path: OfCounts,
    above: Tensor,
    moved: Tensor,
    own: Tensor,
    upto: Tensor,
    negatives: Tensor,
    parameters: dict[str, Any],
) -> Tensor:
    """``(l, K, P)``: what a list's value changes by, by each unit of positive i, when i alone comes to ``moved``.

    Args:
        path: see :class:`WeightedSecants`.
        above: ``(l, P)`` ascending weight of the negatives above each positive; infinite where there is none.
        moved: ``(l, K, P)`` after the move.
        own: ``(l, P)`` what each positive weighs.
        upto: ``(l, P + 1)`` what the first 0, 1, ... P weigh together.
        negatives: ``(l, 1)`` what those of the list weigh.
        parameters: the metric's own.
    """
    positives, place = upto[:, -1:], upto[:, 1:]
    if not path.by_place:
        counts = positives[..., None], negatives[..., None]
        before, after = (path.at(at, at, *counts, **parameters) for at in (above[:, None], moved))
        return (after - before) / positives[:, None]
    sooner, later = torch.maximum(place - 1, own), place + 1
    added = path.at(torch.stack([sooner, place, later]), above, positives, negatives, **parameters)
    still = added[1]
    # of the first 0, 1, ... P positives, what they gain when each stands one unit sooner, and one later
    gains = torch.nn.functional.pad((own * (added[::2] - still)).cumsum(2), (1, 0))
    others = torch.searchsorted(above, moved.flatten(1).contiguous())  # before it, and itself where it falls
    rises = others.view_as(moved) <= counted(above.shape[1], others.dtype, above.device)
    gained, lost = gains.gather(2, others.expand(2, -1, -1)).view(2, *moved.shape)
    passed = torch.where(rises, gains[1, :, None, :-1] - lost, gained - gains[0, :, None, 1:])
    place = upto.gather(1, others).view_as(moved) + own[:, None] * rises
    found = path.at(place, moved, positives[..., None], negatives[..., None], **parameters)
    return (found - still[:, None] + passed) / positives[:, None]
