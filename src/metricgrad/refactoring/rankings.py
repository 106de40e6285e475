"""Metrics of an order: of positives against negatives, or of all items, in one list or in many."""

from __future__ import annotations

import abc
import warnings
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.kernels import SIGMOID, SIGMOID_SQUARED, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.refactoring.base import EXCHANGEABLE, Exchangeable, Moves, Refactoring, checked_choice, first_of_each
from metricgrad.refactoring.lists import WITHIN, Lists, Within, as_lists
from metricgrad.refactoring.standings import blur, sample, soft_counts, stand, surely_above, value_at


class Order(Refactoring, abc.ABC):
    """Shared by rankings: some items move past others, and a soft count says how many they have passed.

    Let item i stand above :math:`c_i` of the items it is compared with, and let
    :math:`\\tilde c_i = \\sum_j (1 - k((t_j - s_i) / \\tau))` be its soft count, with
    :math:`k(z) = q \\, \\sigma(z) + (1 - q) \\, \\mathrm{softplus}(z)`: at q = 1 the soft count of the paper (Eq. 9),
    below it a gradient that does not vanish on pairs that are badly wrong. The interpolated metric is
    :math:`g + \\sum_i \\Delta_i (\\tilde c_i - c_i)`, where the slope :math:`\\Delta_i` is a secant of the metric
    itself: it is called on the scores with item i moved up, and down, past as many neighbours as the softness blurs.

    Args:
        within: what makes a list.
        odds: rank by softmax probabilities rather than by raw scores.
        exchangeable: ``"all"`` where lists of equal length may be swapped (macro averages over rows or columns).
        reach: the width of the secant, in units of the softness' own blur; 0 moves past one neighbour only.
    """

    def __init__(
        self, *, within: Within = "all", odds: bool = False, exchangeable: Exchangeable = "all", reach: float = 1.0
    ) -> None:
        self.within: Within = checked_choice("within", within, WITHIN)
        self.odds = odds
        self.exchangeable = checked_choice("exchangeable", exchangeable, EXCHANGEABLE)
        self.reach = reach

    @abc.abstractmethod
    def _sides(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the items that move, and of those they are compared with."""

    @abc.abstractmethod
    def _pairs(self, lists: Lists) -> tuple[Tensor, Tensor]:
        """Indices of all pairs (upper, lower) that the right order decides. O(l) memory."""

    halves: ClassVar[float]
    sharpest: ClassVar[float] = 0.05

    def lists(self, scores: Tensor, targets: Tensor, groups: Tensor | None) -> Lists:
        """The lists that this refactoring ranks."""
        return as_lists(scores, targets, self.within, groups, self.odds)

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` upper minus lower, for every pair within a list. O(l) memory: for diagnosis and small batches."""
        lists = self.lists(scores, targets, groups)
        upper, lower = self._pairs(lists)
        return lists.values[upper] - lists.values[lower]

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The order in which each item stands by the number of its comparisons won; warns where bits are cyclic."""
        lists = self.lists(scores, targets, groups)
        upper, lower = self._pairs(lists)
        out = self._realised(lists, torch.where(binaries, upper, lower), torch.where(binaries, lower, upper))
        off = int(((out[upper] > out[lower]) != binaries).sum())
        if off:
            warnings.warn(
                f"{off} of {len(binaries)} binaries are cyclic: no ranking realises them; the order by comparisons "
                "won is returned, which need not be the nearest",
                stacklevel=2,
            )
        return out.reshape(scores.shape)

    @abc.abstractmethod
    def _realised(self, lists: Lists, winner: Tensor, loser: Tensor) -> Tensor:
        """Values for all items in which each winner stands above its loser, as far as that is possible."""

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """Ranked by relevance, ties in relevance broken at random, anew in each set."""
        level, scale = self._levels(scores, targets)
        noise = torch.rand((count, len(level)), generator=generator).to(scores)
        return (scale * (level + 0.5 * noise)).reshape(count, *scores.shape)

    @staticmethod
    def _levels(scores: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """``(M,)`` number of each item's relevance among those there are, and how far apart to put two of them."""
        relevance = as_lists(scores, targets, "all", None).relevance
        level = relevance.unique(return_inverse=True)[1].to(scores)
        return level, 8.0 / max(1, int(level.max()) if level.numel() else 1)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Move ``flips`` items of each set to where other randomly chosen items stand."""
        flat = stack.reshape(len(stack), -1)
        chosen = torch.rand(flat.shape, generator=generator).to(flat.device).topk(min(flips, flat.shape[1])).indices
        place = torch.randint(flat.shape[1], chosen.shape, generator=generator).to(flat.device)
        jitter = 1e-3 * torch.randn(chosen.shape, generator=generator).to(flat)
        return flat.scatter(1, chosen, flat.gather(1, place) + jitter).reshape(stack.shape)

    def moves(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        softness: Tensor,
        q: float,
        budget: int,
        share: float,
        generator: torch.Generator,
        groups: Tensor | None = None,
    ) -> Moves:
        """Items move up and down past the neighbours within reach of the softness."""
        lists = self.lists(scores, targets, groups)
        movers, against = self._sides(lists.relevance)
        if share < 1 and len(against):
            against = against[lists.values.detach()[against].topk(max(1, round(share * len(against)))).indices]
        if len(movers) == 0 or len(against) == 0:
            return Moves(lambda: scores.detach()[None][:0], lambda changes: lists.values.sum() * 0.0)
        values = lists.values / softness
        below, ladder, start, size = stand(lists, movers, against)
        kernel = Kernel((0.0, q), slope=1 - q)
        itself = movers is against
        wrong = soft_counts(-values, lists, movers, against, kernel)
        if kernel.slope < LEAK:  # without a slope of its own on pairs that are surely wrong
            wrong = wrong + surely_above(values, lists, movers, against)
        soft = size - (wrong - kernel(wrong.new_zeros(())) if itself else wrong)
        blurred = blur(values.detach(), lists, movers, against)
        width = (self.reach * blurred).round().clamp(min=1).long()
        up, down = (below + width).clamp(max=size), (below - width).clamp(min=0)
        key, first, order = self._strata(lists, movers, below, size)
        left, right, fraction, weight, sampled = sample(
            key, first, order, (soft.detach() - below).abs(), max(1, budget // 2), generator
        )
        item, up, down = movers[sampled], up[sampled], down[sampled]

        def entries() -> tuple[Tensor, Tensor]:
            place = torch.cat([up, down])
            twice = torch.cat([sampled, sampled])
            if itself:  # the ladder holds the mover as well
                place = place + (place > below[twice]).long()
            return torch.cat([item, item]), value_at(ladder, start[twice], size[twice] + int(itself), place)

        def change(changes: Tensor) -> Tensor:
            rise, fall = changes.to(values).chunk(2)
            slope = (rise - fall) / (up - down).clamp(min=1)
            gain = slope[left] * (1 - fraction) + slope[right] * fraction
            return self.halves * (gain * weight * (soft - below)).sum()

        counts = None
        if lists.count == 1 and self.halves == 1.0 and share == 1:
            above = (size - below).expand(2 * len(sampled), -1).clone()
            above[torch.arange(len(above), device=above.device), torch.cat([sampled, sampled])] = torch.cat(
                [size[sampled] - up, size[sampled] - down]
            )
            counts = torch.cat([(size - below)[None], above]).sort(1).values
        return Moves(lambda: lists.replaced(scores, *entries()), change, counts, len(against), entries=entries)

    def _strata(
        self, lists: Lists, movers: Tensor, below: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Key of each mover, one representative of each key, and the order of movers where there is one list."""
        own = torch.arange(len(movers), device=movers.device)
        if lists.count == 1:
            return own, own, lists.values.detach()[movers].argsort()
        alone = torch.bincount(lists.group[movers], minlength=lists.count).max() <= 1 if len(movers) else False
        if self.exchangeable == "all" and alone and self.halves == 1.0 and len(movers):
            stride = int(size.max()) + 1
            key, first = first_of_each(size * stride + below)
            return key, first, None
        return own, own, None

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Mean absolute comparison in O(M log M): from the standard deviation over all items of all lists."""
        lists = self.lists(scores.detach(), targets, groups)
        return lists.values.std(correction=0) * 1.13 if lists.values.numel() > 1 else lists.values.new_zeros(())


class PositivesOverNegatives(Order):
    """Only how many negatives stand above each positive matters: AP, AUROC, precision@k, MRR.

    The comparisons are ``s_i - s_j`` for each positive i and negative j of one list (Eq. 5). Pair sums are near-linear:
    no tensor of all pairs is stored, except by :meth:`comparisons`.
    """

    name: ClassVar[str] = "positives_over_negatives"
    halves: ClassVar[float] = 1.0

    def _sides(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        return (relevance > 0).nonzero().squeeze(-1), (relevance <= 0).nonzero().squeeze(-1)

    def _pairs(self, lists: Lists) -> tuple[Tensor, Tensor]:
        positives, negatives = self._sides(lists.relevance)
        same = lists.group[positives][:, None] == lists.group[negatives][None, :]
        i, j = same.nonzero(as_tuple=True)
        return positives[i], negatives[j]

    def _realised(self, lists: Lists, winner: Tensor, loser: Tensor) -> Tensor:
        positives, negatives = self._sides(lists.relevance)
        won, lost = (torch.bincount(side, minlength=len(lists.group)) for side in (winner, loser))
        out = torch.zeros_like(lists.values.detach())
        # negatives stand on a ladder, those that lose most at the bottom; a positive stands above as many as it beats
        for g in range(lists.count):
            mine = negatives[lists.group[negatives] == g]
            out[mine[lost[mine].argsort(descending=True)]] = torch.arange(len(mine)).to(out)
        out[positives] = won[positives].to(out) - 0.5
        return out

    def squared_distances(
        self, scores: Tensor, targets: Tensor, anchors: Tensor, *, softness: Tensor, groups: Tensor | None = None
    ) -> Tensor:
        """``(T,)`` by near-linear pair sums: sum u^2 + sum over the pairs an anchor decides right of (1 - 2 u)."""
        lists = self.lists(scores, targets, groups)
        if lists.count > 1:
            return super().squared_distances(scores, targets, anchors, softness=softness, groups=groups)
        positives, negatives = self._sides(lists.relevance)
        values = lists.values / softness
        if len(positives) == 0 or len(negatives) == 0:
            return values.sum() * values.new_zeros(len(anchors))
        x, y = values[positives], values[negatives]
        placed = torch.stack([self.lists(a, targets, groups).values for a in anchors])
        rank = torch.stack([row.unique(return_inverse=True)[1] for row in placed])
        rank_x, rank_y = rank[:, positives], rank[:, negatives]
        right = dominance_sum(x, y, rank_x, rank_y, kernel=SIGMOID).sum(1)
        count = torch.stack(
            [torch.searchsorted(ry.sort().values, rx).sum() for rx, ry in zip(rank_x, rank_y, strict=True)]
        ).to(values)
        squared = (pair_sum(x, y, kernel=SIGMOID_SQUARED).sum() + count - 2 * right).clamp(min=0)
        if float(y.detach().amax() - x.detach().amin()) < START / 2:
            return squared
        # pairs that are surely wrong keep a pull to the anchors that have them right
        surely = 2 * LEAK * dominance_sum(y - START, x, -rank_y, -rank_x, kernel=SOFTPLUS).sum(1)
        return squared + (surely - surely.detach())


class Ranking(Order):
    """The order of all items of unequal relevance matters: Spearman, Kendall, NDCG.

    The comparisons are ``s_i - s_j`` for each pair of one list with relevance i above relevance j.
    """

    name: ClassVar[str] = "ranking"
    halves: ClassVar[float] = 0.5

    def best(self, ideal: Tensor, targets: Tensor) -> Tensor:
        """Equal scores where targets are equal: only then is a rank correlation 1."""
        level, scale = self._levels(ideal, targets)
        return (scale * level).reshape(ideal.shape)

    def _sides(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        items = torch.arange(len(relevance), device=relevance.device)
        return items, items

    def _pairs(self, lists: Lists) -> tuple[Tensor, Tensor]:
        better = lists.relevance[:, None] > lists.relevance[None, :]
        upper, lower = (better & (lists.group[:, None] == lists.group[None, :])).nonzero(as_tuple=True)
        return upper, lower

    def _realised(self, lists: Lists, winner: Tensor, loser: Tensor) -> Tensor:
        count = len(lists.group)
        layer = torch.zeros(count, dtype=torch.long, device=winner.device)
        # peel off, layer by layer, the items that lose to nobody who is left
        while len(winner):
            beaten = torch.zeros(count, dtype=torch.bool, device=winner.device).index_fill(0, loser, True)
            if bool(beaten[winner].all()):  # a cycle: all that are left lose to somebody
                won, lost = (torch.bincount(side, minlength=count) for side in (winner, loser))
                return (-layer * 2 * count + won - lost).to(lists.values.dtype)
            layer += beaten
            keep = beaten[winner]
            winner, loser = winner[keep], loser[keep]
        return -layer.to(lists.values.dtype)
