"""Metrics of an order: of positives against negatives, or of all items, in one list or in many."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.kernels import SIGMOID, SIGMOID_SQUARED, SOFTPLUS, Kernel
from metricgrad.functional.leak import LEAK, START
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.refactoring.base import (
    EXCHANGEABLE,
    Exchangeable,
    Moves,
    Refactoring,
    Shapes,
    checked_choice,
    first_of_each,
)
from metricgrad.refactoring.lists import WITHIN, Lists, Within, as_lists
from metricgrad.refactoring.score_sets import Logits, Ranks, moved
from metricgrad.refactoring.soft_ranks import blur, place_at, sample, soft_counts, stand, surely_above
from metricgrad.refactoring.tie_orders import strict_orders

_LARGEST = 1e150


@dataclass(frozen=True)
class _Way:
    """Moves from one strict order: which items, to which places, what comes of them, and as counts of who is above."""

    item: Tensor
    place: Tensor
    change: Callable[[Tensor], Tensor]
    above: Callable[[], Tensor]


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
        decoded: whether the metric is called on the log-odds themselves rather than on logits.
        apart: ``(N,)`` numbers that tell rows of equal score and target apart, such as weights.

    Scores that tie are put in every order that breaks the tie, and the loss is the mean over these orders: see
    :mod:`metricgrad.refactoring.tie_orders`.
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
        """Only of many lists, where there are more moves than the budget allows, in two orders where scores tie."""
        return self.within != "all" and budget < 4 * (scores.numel() + 1)

    halves: ClassVar[float]
    shapes: ClassVar[Shapes | None] = "either"
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
        found = flat.gather(1, place)
        jitter = (1e-6 * found.abs()).clamp(min=1e-3) * torch.randn(chosen.shape, generator=generator).to(flat)
        return flat.scatter(1, chosen, found + jitter).reshape(stack.shape)

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
            hard = lists.values.detach()[against]
            lowest = hard.topk(max(1, round(share * len(against)))).values[-1]
            against = against[hard >= lowest]
        if len(movers) == 0 or len(against) == 0:
            return Moves(lambda: scores.detach()[None][:0], lambda changes: lists.values.sum() * 0.0)
        itself = movers is against
        orders = strict_orders(lists, self._apart(lists), max(2, budget // (1 + 2 * len(movers))), generator)
        values = self._in_softness(orders.shared(lists.values), softness)
        if lists.count > 1 and scores.dtype == torch.float32:
            values = values.float()  # short lists are summed pair by pair, and twice as fast
        kernel = Kernel((0.0, q), slope=1 - q)
        wrong = soft_counts(-values, lists, movers, against, kernel)
        if kernel.slope < LEAK:  # without a slope of its own on pairs that are surely wrong
            wrong = wrong + surely_above(values, lists, movers, against)
        wrong = wrong - kernel(wrong.new_zeros(())) if itself else wrong
        width = (self.reach * blur(values.detach(), lists, movers, against)).round().clamp(min=1).long()
        on_logits = lists.odds and not self.decoded
        sets = (
            Logits(lists, scores, orders.places, orders.kind is not None) if on_logits else Ranks(lists, orders.places)
        )
        each = max(1, (budget + 1) // len(sets.places) - 1)
        ways = [
            self._past_neighbours(places, lists, movers, against, wrong, width, each, generator)
            for places in sets.places
        ]
        taken = [len(way.item) for way in ways]
        origin = torch.arange(len(ways)).repeat_interleave(torch.tensor(taken)).to(scores.device)

        item, place = torch.cat([way.item for way in ways]), torch.cat([way.place for way in ways])

        def entries() -> tuple[Tensor, Tensor]:
            return origin * len(lists.group) + item, sets.value_at(origin, item, place)

        def change(changes: Tensor) -> Tensor:
            parts = changes.to(values).split(taken)
            expected = torch.stack([way.change(part) for way, part in zip(ways, parts, strict=True)])
            return self.halves * expected

        counts = None
        if lists.count == 1 and self.halves == 1.0 and share == 1:
            above = [way.above() for way in ways]
            counts = torch.cat([of[:1] for of in above] + [of[1:] for of in above]).sort(1).values
        return Moves(
            lambda: moved(sets, origin, item, place), change, counts, len(against), base=sets.base, origin=origin,
            ranks=lists.odds and self.decoded, entries=entries,
        )  # fmt: skip

    @staticmethod
    def _in_softness(values: Tensor, softness: Tensor) -> Tensor:
        """Divided by the softness; what is too large to be summed then counts as 1e150, with its gradient."""
        limit = _LARGEST * softness.detach()
        if bool(values.detach().abs().amax() > limit):
            clipped = values.detach().clamp(-limit, limit)
            values = torch.where(clipped == values, values, clipped + (values - values.detach()))
        return values / softness

    def _apart(self, lists: Lists) -> Tensor | None:
        """``(M,)`` from one number for each row."""
        if self.apart is None or self.apart.shape != lists.shape[: self.apart.ndim]:
            return None
        return self.apart.flatten().repeat_interleave(len(lists.group) // self.apart.numel())

    def _past_neighbours(
        self,
        places: Tensor,
        lists: Lists,
        movers: Tensor,
        against: Tensor,
        wrong: Tensor,
        width: Tensor,
        budget: int,
        generator: torch.Generator,
    ) -> _Way:
        """The moves from one strict order."""
        itself = movers is against
        below, ladder, start, size = stand(places, lists, movers, against)
        soft = size - wrong
        up, down = (below + width).clamp(max=size), (below - width).clamp(min=0)
        key, first, order = self._strata(lists, movers, places, below, size)
        left, right, fraction, weight, sampled = sample(
            key, first, order, (soft.detach() - below).abs(), max(1, budget // 2), generator
        )
        to = torch.cat([up[sampled], down[sampled]])
        twice = torch.cat([sampled, sampled])
        # the ladder of a mover among its own kind holds the mover as well
        place = place_at(ladder, start[twice], to + (to > below[twice]).long() if itself else to)

        def change(changes: Tensor) -> Tensor:
            rise, fall = changes.chunk(2)
            slope = (rise - fall) / (up - down).clamp(min=1)[sampled]
            gain = slope[left] * (1 - fraction) + slope[right] * fraction
            return (gain * weight * (soft - below)).sum()

        def above() -> Tensor:
            none, counts = twice[:1], size - below
            which, value = torch.cat([none, twice]), torch.cat([counts[none], size[twice] - to])
            return counts.expand(1 + len(twice), -1).scatter(1, which[:, None], value[:, None])

        return _Way(movers[twice], place, change, above)

    def _strata(
        self, lists: Lists, movers: Tensor, places: Tensor, below: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Key of each mover, one representative of each key, and the order of movers where there is one list."""
        own = torch.arange(len(movers), device=movers.device)
        if lists.count == 1:
            return own, own, places[movers].argsort()
        alone = torch.bincount(lists.group[movers], minlength=lists.count).max() <= 1 if len(movers) else False
        if self.exchangeable == "all" and alone and self.halves == 1.0 and len(movers):
            stride = int(size.max()) + 1
            key, first = first_of_each(size * stride + below)
            return key, first, None
        return own, own, None

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
