r"""What pairs that stand the wrong way up cost a rank correlation, in many lists at once.

.. math:: L = \sum_l v_l w_l \sum_{y_{li} > y_{lj}} k(s_{lj} - s_{li})

with :math:`w_l` what a pair of list l is worth: the metric is linear in them, so there is nothing to linearise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.functional.constants import filled
from metricgrad.functional.correlation import pair_counts
from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.kernels import SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.ranks import hard_rank
from metricgrad.losses.interpolated.lists.pairs import Plan, joined, total
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.metrics.of_pairs import OfPairs
from metricgrad.precision import wide


class RankPairs:
    """The loss of all lists.

    Args:
        lists: what is ranked, all of one length.
        depth: ``(L, M)`` of them, values turned round, in units of the softness and without a gradient.
        path: of the metric of one list.
        parameters: the metric's own.
        soft: how pairs are softened.

    Attributes are those of :class:`metricgrad.losses.interpolated.lists.rank_secants.RankSecants`.
    """

    def __init__(
        self,
        lists: RankedLists,
        depth: Tensor,
        path: OfPairs,
        parameters: dict[str, Any],
        soft: Softening,
    ) -> None:
        values, (count, size) = -depth, depth.shape
        self._soft, self._plan = soft, Plan.singly(values)
        # held pairs compare what is given; sums over pairs that are not held take numbers that differ by their rank
        self._order = wide(hard_rank(lists.relevance)) if self._plan.summed else lists.relevance
        parts = [self._standing(values[some], self._order[some]) for some in self._plan.parts(count)]
        excess, apart, ordered = (joined(of) for of in zip(*parts, strict=True))
        now = path.value(excess, apart, ordered, **parameters)
        ideal = apart / apart  # NaN where no targets differ
        shares, means, self.total = lists.means(torch.stack([now, ideal]), missing=path.missing)
        self.now, self.ideal = means.unbind()
        self._worth = (shares * path.worth(apart, size, **parameters)).nan_to_num()
        self.informs = self._worth.any()
        with torch.enable_grad():
            leaf = values.to(soft.dtype).requires_grad_()
            value = self.loss(leaf)
            self.gradient = torch.autograd.grad(value, leaf)[0].mul_(soft.steepness)
        self.excess = filled(0.0, 1, now.dtype, now.device)[0]
        if soft.valued:
            # of scores that tie apart from their targets the mean over the orders that break ties
            broken, whole = self._worth * apart / 2 - shares * now, self._worth * (apart - excess) / 2
            hard = torch.where(_ties_apart(values, self._order), broken, whole).nan_to_num().sum()
            self.excess = value.detach() - hard

    @property
    def worst(self) -> Tensor:
        """0-d: the metric where items stand the other way round."""
        return -self.ideal

    @property
    def tied(self) -> Tensor:
        """0-d boolean, False: what ties counts half, the mean over the orders that break ties."""
        return torch.zeros_like(self.informs)

    def loss(self, values: Tensor) -> Tensor:
        """0-d: the loss as a function of ``(L, M)`` values."""
        found = []
        for some in self._plan.parts(len(values)):
            own, order, worth = values[some], self._order[some], self._worth[some].to(values)
            found.append((worth * self._wrong(own, order, self._soft.kernel)).sum())
            if self._soft.leak:
                surely = LEAK * (worth * self._wrong(own, order, SOFTPLUS, START)).sum()
                found.append(surely - surely.detach())
        return total(found)

    def _wrong(self, values: Tensor, order: Tensor, kernel: Kernel, start: float = 0.0) -> Tensor:
        """``(l,)``: the sums of a kernel of how far the lower of two stands above the higher."""
        if self._plan.summed:
            return dominance_sum(-values[0] - start, -values[0], order[:1], order[:1], kernel=kernel).sum()[None]
        away = values[:, None] - values[:, :, None]
        right = order[:, :, None] <= order[:, None]
        return kernel(away - start if start else away).masked_fill(right, 0).sum((1, 2))

    def _standing(self, values: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(l,)`` each: concordant less discordant pairs, and those that differ in order and in value."""
        if self._plan.summed:
            return pair_counts(values, order)
        higher = order[:, :, None] > order[:, None]
        each = wide(torch.stack([higher, torch.sign(values[:, :, None] - values[:, None])], 1).flatten(2))
        counts = each @ each.mT
        return counts[:, 0, 1], counts[:, 0, 0], counts[:, 1, 1] / 2


def _ties_apart(values: Tensor, order: Tensor) -> Tensor:
    """``(l,)`` booleans: whether items tie whose targets do not."""
    values, place = values.sort(1)
    return ((values.diff(dim=1) == 0) & (order.gather(1, place).diff(dim=1) != 0)).any(1)
