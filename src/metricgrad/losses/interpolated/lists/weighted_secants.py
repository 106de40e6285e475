r"""What negatives above a positive cost a mean over ranked lists whose items weigh differently.

As in :mod:`metricgrad.losses.interpolated.lists.list_secants`, with weights :math:`u_i` of positives and :math:`w_j` of
negatives, in shares of what an item of the list weighs on average:

.. math:: L = \sum_l v_l \sum_i u_{li} \Delta_{li} \sum_j w_{lj} k(t_{lj} - s_{li})

Counts of items become sums of their weights, so an item of weight 2 stands for two. What positive i is worth by a unit
of its weight, :math:`\Delta_i`, takes a unit to be passed from those that it passes; with all weights alike it is that
of lists without weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled, listed
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.interpolated.lists.pairs import joined, parts_of, total
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.precision import wide

_BUMP = SIGMOID.derivative()
_LONG = 2**18
"""Pairs of one list from which on its sums are near-linear ones."""


class WeightedSecants:
    """The loss of all lists, linearised where they stand.

    Args:
        lists: what is ranked, with the mass of each item.
        values: ``(L, M)`` of them, in units of the softness and without a gradient.
        path: of the metric of one list, whose items may weigh.
        parameters: the metric's own.
        dtype: that pairs are summed in.
        width: of the secant, in weight of negatives, from a quarter of how much is within the sigmoid's reach.
        kernel: k, which rises like a sigmoid.
        leak: whether pairs that are surely wrong keep the slope of :mod:`metricgrad.functional.leak`.
        valued: whether the loss is asked for, beside its gradient.

    Attributes are those of :class:`metricgrad.losses.interpolated.lists.list_secants.ListSecants`.
    """

    def __init__(
        self,
        lists: RankedLists,
        values: Tensor,
        path: OfCounts,
        parameters: dict[str, Any],
        dtype: torch.dtype,
        *,
        width: Callable[[Tensor], Tensor] = lambda near: 4 * near,
        kernel: Kernel = SIGMOID,
        leak: bool = False,
        valued: bool = False,
    ) -> None:
        assert lists.mass is not None
        self._kernel, self._leak, device = kernel, leak, values.device
        there, relevant = lists.mass > 0, lists.relevance > 0
        whole = lists.mass.sum(1, keepdim=True).clamp(min=torch.finfo(lists.mass.dtype).tiny)
        mass = lists.mass * (there.sum(1, keepdim=True) / whole)
        positive, others = relevant & there, mass * ~relevant
        most = max(1, int(positive.sum(1).amax()))
        self._parts = len(values), most * values.shape[1]
        depth, nowhere = -values, filled(torch.inf, 1, values.dtype, device)
        up, place = torch.where(positive, depth, nowhere).contiguous().sort(1)
        up, self._place = up[:, :most].contiguous(), place[:, :most]
        down, order = torch.where(relevant, nowhere, depth).contiguous().sort(1)
        self._there = up < torch.inf
        own = mass.gather(1, self._place) * self._there
        upto, above = (torch.nn.functional.pad(of.cumsum(1), (1, 0)) for of in (own, others.gather(1, order)))
        negatives = above[:, -1:]
        before, level = self._ends = [torch.searchsorted(down, up, right=right) for right in (False, True)]
        ends = above.gather(1, before), above.gather(1, level)
        self._above = middle = (ends[0] + ends[1]) / 2

        each = _values(path, up, own, upto, (middle, ends[1]), negatives, parameters)
        shares, means, self.total = lists.means(each, missing=path.missing)
        self.now, self.ideal, self.worst = means.unbind()

        middle = torch.where(self._there, middle, filled(torch.inf, 1, middle.dtype, device))
        self._others, depth = others.to(dtype), depth.to(dtype)
        slopes, gradients, excess = [], [], []
        for some in parts_of(*self._parts, device):
            pairs = _Pairs(depth[some].gather(1, self._place[some]), depth[some], self._others[some])
            reach = width(wide(pairs.near(_BUMP))).clamp(min=1)
            moved = torch.addcmul(middle[some, None], reach[:, None], listed((-1.0, 1.0), reach.dtype, device)[:, None])
            moved = torch.minimum(moved.clamp(min=0), negatives[some, None])
            worth = _changes(path, middle[some], moved, own[some], upto[some], negatives[some], parameters)
            (less, more), (low, high) = worth.unbind(1), moved.unbind(1)
            slope = (shares[some, None] * own[some] * (less - more) / (high - low)).nan_to_num(0, 0, 0)
            pull, push = pairs.weighted(slope.to(dtype), kernel.derivative())
            if leak:
                surely = pairs.closer(START).weighted(LEAK * slope.to(dtype), SIGMOID)
                pull, push = pull + surely[0], push + surely[1]
            gradients.append(pull.scatter_add(1, self._place[some], -push))
            slopes.append(slope)
            if valued:
                excess.append((slope * (pairs.near(kernel) - self._above[some])).sum())
        self._slopes, self.gradient = joined(slopes), joined(gradients)
        self.excess = total(excess) if valued else filled(0.0, 1, dtype, device)[0]
        self.informs = self._slopes.any()

    @property
    def tied(self) -> Tensor:
        """0-d boolean: whether a positive ties with a negative."""
        return ((self._ends[0] != self._ends[1]) & self._there).any()

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found = []
        for some in parts_of(*self._parts, values.device):
            depth, slopes = -values[some], self._slopes[some].to(values)
            pairs = _Pairs(depth.gather(1, self._place[some]), depth, self._others[some].to(values))
            found.append((slopes * pairs.near(self._kernel)).sum())
            if self._leak:
                surely = LEAK * (slopes * pairs.closer(START).near(SOFTPLUS)).sum()
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


class _Pairs:
    """Sums over pairs of lists whose items weigh; of one long list near-linear ones.

    Args:
        up: ``(l, P)`` depths of the items that are summed by.
        depth: ``(l, M)`` of all.
        mass: ``(l, M)`` what they count.
    """

    def __init__(self, up: Tensor, depth: Tensor, mass: Tensor) -> None:
        self._up, self._depth, self._mass = up, depth, mass
        self._long = up.shape[1] * depth.shape[1] > _LONG
        self._known: tuple[Kernel, Tensor, Tensor] | None = None

    def closer(self, by: float) -> _Pairs:
        """With the first so much further up."""
        return _Pairs(self._up - by, self._depth, self._mass)

    def near(self, kernel: Kernel) -> Tensor:
        """``(l, P)``: the sum over all."""
        if self._long:
            return pair_sum(self._up[0], self._depth[0], self._mass[0], kernel)[None]
        return self._held(kernel)[1]

    def weighted(self, weights: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """``(l, M)`` sums over the first, by ``(l, P)`` weights, at each, and ``(l, P)`` over all at each first."""
        if self._long:
            found = pair_sum(-self._depth[0], -self._up[0], weights[0], kernel)[None]
            return self._mass * found, weights * self.near(kernel)
        table, near = self._held(kernel)
        return self._mass * torch.bmm(weights[:, None], table)[:, 0], weights * near

    def _held(self, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """All pairs, and their sums."""
        if self._known is None or self._known[0] != kernel:
            found = kernel(self._up[:, :, None] - self._depth[:, None])
            self._known = kernel, found, torch.bmm(found, self._mass[..., None])[..., 0]
        return self._known[1:]
