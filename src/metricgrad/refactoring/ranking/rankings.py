"""Metrics of an order: of positives against negatives, or of all items, in one list or in many."""

from __future__ import annotations

import abc
import warnings
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.kernels import SIGMOID, SIGMOID_SQUARED, SOFTPLUS
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.refactoring.base import EXCHANGEABLE, Exchangeable, Refactoring, Shapes, checked_choice
from metricgrad.refactoring.moves import CountMoves, EntryMoves, MoveRequest, Moves, NoMoves
from metricgrad.refactoring.ranking.lists import WITHIN, Lists, Within, as_lists, ranked_by
from metricgrad.refactoring.ranking.passing import Passing, Sides, passing
from metricgrad.refactoring.ranking.score_sets import Logits, Ranks
from metricgrad.refactoring.ranking.tie_orders import strict_orders


class Order(Refactoring, abc.ABC):
    """Shared by rankings: some items move past others, and a soft count says how many they have passed.

    The moves are those of :mod:`metricgrad.refactoring.ranking.passing`.

    Args:
        within: what makes a list.
        odds: rank by softmax probabilities rather than by raw scores.
        exchangeable: ``"all"`` where lists of equal length may be swapped (macro averages over rows or columns).
        reach: the width of the secant, in units of how many others lie within the softness; 0 passes one only.
        decoded: whether the metric is called on the log-odds themselves rather than on logits.
        apart: ``(N,)`` numbers that tell rows of equal score and target apart, such as weights.

    Scores that tie are put in every order that breaks the tie, and the loss is the mean over these orders: see
    :mod:`metricgrad.refactoring.ranking.tie_orders`.
    """

    def __init__(
        self,
        *,
        within: Within = "all",
        odds: bool = False,
        exchangeable: Exchangeable = "all",
        reach: float = 1.0,
        decoded: bool = False,
        apart: Tensor | None = None,
    ) -> None:
        self.within: Within = checked_choice("within", within, WITHIN)
        self.odds = odds
        self.exchangeable = checked_choice("exchangeable", exchangeable, EXCHANGEABLE)
        self.reach = reach
        self.decoded = decoded
        self.apart = apart

    @abc.abstractmethod
    def _sides(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the items that move, and of those they are compared with."""

    @abc.abstractmethod
    def _pairs(self, lists: Lists) -> tuple[Tensor, Tensor]:
        """Indices of all pairs (upper, lower) that the right order decides. O(l) memory."""

    def draws_rows(self, scores: Tensor, budget: int) -> bool:
        """Of many lists, some of which a move in the first of them stands for."""
        return self.within != "all"

    halves: ClassVar[float]
    shapes: ClassVar[Shapes | None] = "either"

    def lists(self, scores: Tensor, targets: Tensor, groups: Tensor | None) -> Lists:
        """The lists that this refactoring ranks."""
        return as_lists(scores, targets, self.within, groups, self.odds)

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` upper minus lower, for every pair within a list. O(l) memory: for diagnosis and small batches."""
        lists = self.lists(scores, targets, groups)
        upper, lower = self._pairs(lists)
        return lists.values[upper] - lists.values[lower]

    def binaries_of(self, stack: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Of all score sets at once."""
        upper, lower = self._pairs(self.lists(stack[0], targets, groups))
        values = ranked_by(stack, self.odds).flatten(1)
        return values[:, upper] - values[:, lower] > 0

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The order in which each item stands by the number of its comparisons won; warns where bits are cyclic."""
        lists = self.lists(scores, targets, groups)
        upper, lower = self._pairs(lists)
        (out,) = self._realised(lists, upper, lower, binaries[None])
        off = int(((out[upper] > out[lower]) != binaries).sum())
        if off:
            warnings.warn(
                f"{off} of {len(binaries)} binaries are cyclic: no ranking realises them; the order by comparisons "
                "won is returned, which need not be the nearest",
                stacklevel=2,
            )
        return out.reshape(scores.shape)

    def score_sets(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """See :meth:`scores_from`."""
        lists = self.lists(scores, targets, groups)
        return self._realised(lists, *self._pairs(lists), binaries).reshape(len(binaries), *scores.shape)

    @abc.abstractmethod
    def _realised(self, lists: Lists, upper: Tensor, lower: Tensor, binaries: Tensor) -> Tensor:
        """``(T, M)`` values in which upper items stand above their lower ones where the ``(T, l)`` binaries say so, and
        below elsewhere, as far as that is possible.
        """

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
        levels, level = relevance.unique(return_inverse=True)
        return level.to(scores), 8.0 / max(1, len(levels) - 1)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Move ``flips`` items of each set to where other randomly chosen items stand."""
        flat = stack.reshape(len(stack), -1)
        chosen = torch.rand(flat.shape, generator=generator).topk(min(flips, flat.shape[1])).indices
        place = torch.randint(flat.shape[1], chosen.shape, generator=generator)
        chosen, place = torch.stack([chosen, place]).to(flat.device).unbind()
        found = flat.gather(1, place)
        jitter = (1e-6 * found.abs()).clamp(min=1e-3) * torch.randn(chosen.shape, generator=generator).to(flat)
        return flat.scatter(1, chosen, found + jitter).reshape(stack.shape)

    def moves(self, request: MoveRequest) -> Moves:
        """Items move up and down past the neighbours within reach of the softness."""
        found = self.passing(request)
        if found is None:
            return NoMoves(request.scores)
        lists = found.sides.lists
        entries = EntryMoves(
            expectation=found.change, base=found.sets.base, stack=found.stack, origin=found.origin,
            decoded=lists.odds and self.decoded,
        )  # fmt: skip
        # with a share of the negatives the counts are not all that the metric reads
        if lists.count > 1 or self.halves < 1 or request.share < 1:
            return entries
        return CountMoves(**vars(entries), counts=found.counts, negatives=len(found.sides.against))

    def passing(self, request: MoveRequest) -> Passing | None:
        """The moves as items that pass others; None where there is nobody to pass."""
        lists = self.lists(request.scores, request.targets, request.groups)
        movers, against = self._sides(lists.relevance)
        if request.share < 1 and len(against):
            hard = lists.values.detach()[against]
            lowest = hard.topk(max(1, round(request.share * len(against)))).values[-1]
            against = against[hard >= lowest]
        if len(movers) == 0 or len(against) == 0:
            return None
        most = max(2, request.budget // (1 + 2 * len(movers)))
        orders = strict_orders(lists, self._apart(lists), most, request.generator)
        if lists.odds and not self.decoded:
            sets = Logits(lists, request.scores, orders.ranks, orders.kind is not None)
        else:
            sets = Ranks(lists, orders.ranks)
        sides = Sides(lists, movers, against, self.halves, self.exchangeable == "all")
        return passing(sides, orders, sets, self.reach, request)

    def _apart(self, lists: Lists) -> Tensor | None:
        """``(M,)`` from one number for each row."""
        if self.apart is None or self.apart.shape != lists.shape[: self.apart.ndim]:
            return None
        return self.apart.flatten().repeat_interleave(len(lists.group) // self.apart.numel())

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Mean absolute comparison in O(M log M): from the standard deviation over all items of all lists."""
        lists = self.lists(scores.detach(), targets, groups)
        if lists.values.numel() < 2:
            return lists.values.new_zeros(())
        size = lists.values.abs().amax().clamp(min=1)
        return (lists.values / size).std(correction=0) * size * 1.13


class PositivesOverNegatives(Order):
    """Only how many negatives stand above each positive matters: AP, AUROC, precision@k, MRR.

    The comparisons are ``s_i - s_j`` for each positive i and negative j of one list (Eq. 5). Pair sums are near-linear:
    no tensor of all pairs is stored, except by :meth:`comparisons`.
    """

    name: ClassVar[str] = "positives_over_negatives"
    halves: ClassVar[float] = 1.0

    def _sides(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        positive = relevance > 0
        order, count = (~positive).byte().argsort(stable=True), int(positive.sum())
        return order[:count], order[count:]

    def _pairs(self, lists: Lists) -> tuple[Tensor, Tensor]:
        positives, negatives = self._sides(lists.relevance)
        negatives = negatives[lists.group[negatives].argsort(stable=True)]
        group, own = lists.group[negatives], lists.group[positives]
        first, past = torch.searchsorted(group, own), torch.searchsorted(group, own, right=True)
        upper, count = positives.repeat_interleave(past - first), (past - first).cumsum(0)
        turn = torch.arange(len(upper), device=upper.device) + (past - count).repeat_interleave(past - first)
        return upper, negatives[turn]

    def owners(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The positive of each comparison."""
        upper, _ = self._pairs(self.lists(scores.detach(), targets, groups))
        return upper.unique(return_inverse=True)[1]

    def _realised(self, lists: Lists, upper: Tensor, lower: Tensor, binaries: Tensor) -> Tensor:
        positives, negatives = self._sides(lists.relevance)
        nothing = lists.values.new_zeros(len(binaries), len(lists.group))
        won = binaries.to(nothing)
        beaten = nothing.index_add(1, upper, won)
        # negatives stand in a row, those that lose most at the bottom; a positive stands above as many as it beats
        lost = nothing.index_add(1, lower, won)[:, negatives]
        group = lists.group[negatives]
        order = lost.argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, group[order].argsort(dim=1, stable=True))
        one_by_one = group.sort().values
        place = torch.arange(len(negatives), device=group.device) - torch.searchsorted(one_by_one, one_by_one)
        out = nothing.scatter(1, negatives[order], place.to(nothing).expand(order.shape))
        out[:, positives] = beaten[:, positives] - 0.5
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
        rank = ranked_by(anchors, self.odds).flatten(1)
        rank_x, rank_y = rank[:, positives], rank[:, negatives]
        right = dominance_sum(x, y, rank_x, rank_y, kernel=SIGMOID).sum(1)
        count = torch.searchsorted(rank_y.sort().values, rank_x).sum(1).to(values)
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

    def _realised(self, lists: Lists, upper: Tensor, lower: Tensor, binaries: Tensor) -> Tensor:
        sides = [(torch.where(row, upper, lower), torch.where(row, lower, upper)) for row in binaries]
        layers = [self._layers(len(lists.group), winner, loser) for winner, loser in sides]
        return torch.stack(layers).to(lists.values.dtype)

    @staticmethod
    def _layers(count: int, winner: Tensor, loser: Tensor) -> Tensor:
        """``(count,)`` whole numbers: higher for whoever stands higher."""
        layer = torch.zeros(count, dtype=torch.long, device=winner.device)
        # peel off, layer by layer, the items that lose to nobody who is left
        while len(winner):
            beaten = torch.zeros(count, dtype=torch.bool, device=winner.device).index_fill(0, loser, True)
            if bool(beaten[winner].all()):  # a cycle: all that are left lose to somebody
                won, lost = (torch.bincount(side, minlength=count) for side in (winner, loser))
                return -layer * 2 * count + won - lost
            layer += beaten
            keep = beaten[winner]
            winner, loser = winner[keep], loser[keep]
        return -layer
