"""Metrics of predicted labels: a threshold at 0 for every entry, or an argmax for every row."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.leak import LIMIT, leak_rate, margins
from metricgrad.refactoring.base import (
    EXCHANGEABLE,
    Exchangeable,
    Labels,
    Moves,
    Refactoring,
    Shapes,
    bounded,
    checked_choice,
    choose,
    expected_change,
    first_of_each,
    higher,
    log_shares,
    most_likely,
    quality_odds,
    samples_of,
    worths,
)

_GOLDEN = (math.sqrt(5) - 1) / 2


class Threshold(Refactoring):
    """Only the side of 0 matters, entry by entry: binary and multilabel F1, MCC, exact match.

    Scores and targets share their shape, ``(N,)``, ``(N, C)`` or any other; targets are 0 or 1. The comparisons are
    ``(2 y - 1) s``, with the threshold as the second score of each difference. The moves change an entry's side, from
    the one that a draw from its sigmoid has put it on.

    Args:
        exchangeable: which entries of equal target and prediction share one move, because swapping them leaves the
            metric as it is: ``"all"``, ``"sample"`` (of one image or sentence, one index of the first axis),
            ``"column"`` (one index of the last axis), ``"row"`` (they differ in the last axis alone) or ``"none"``.
    """

    name: ClassVar[str] = "threshold"
    shapes: ClassVar[Shapes | None] = "same"

    def __init__(self, *, exchangeable: Exchangeable = "all") -> None:
        self.exchangeable: Exchangeable = checked_choice("exchangeable", exchangeable, EXCHANGEABLE)

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Signed scores, one for each entry."""
        return (scores * (2 * targets.to(scores) - 1)).reshape(-1)

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Scores of magnitude one on the side that each binary says."""
        right = 2 * binaries.reshape(scores.shape).to(scores) - 1
        return right * (2 * targets.to(scores) - 1)

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """Every entry on its side; the configuration of binaries is the same in all of them, the margins differ."""
        margin = 1 + torch.rand((count, *scores.shape), generator=generator).to(scores)
        return margin * (2 * targets.to(scores) - 1)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Flip the side of ``flips`` entries in each set."""
        flat = stack.reshape(len(stack), -1).clone()
        chosen = torch.rand(flat.shape, generator=generator).to(flat.device).topk(min(flips, flat.shape[1])).indices
        values = flat.gather(1, chosen)
        flipped = torch.where(values == 0, torch.ones_like(values), -values)
        return flat.scatter(1, chosen, flipped).reshape(stack.shape)

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
        """Entries change side; entries of equal target and prediction share one move where they may."""
        flat = scores.reshape(-1)
        target = targets.reshape(-1).long()
        margin = margins(flat, softness)
        soft = margin.detach().sigmoid()
        up = drawn(torch.stack([1 - soft, soft], 1), target, generator) > 0
        hard = torch.where(up, 1.0, -1.0).to(flat) * higher(bounded(flat).abs())
        flipping = torch.where(up, -margin, margin)
        # what is surely wrong is tried as well, however unlikely it is to flip
        wrong = (up != (target > 0)) * leak_rate(flipping)
        mass = most_likely(flipping.detach().sigmoid() + wrong, share)
        stratum, first = first_of_each(self._key(scores.shape, target * 2 + up, scores.device))
        total = mass.new_zeros(len(first)).index_add(0, stratum, mass)
        index, weight = choose(total, budget, generator)

        def stack() -> Tensor:
            out = hard.expand(len(index), -1).clone()
            entry = first[index]
            value = torch.where(up[entry], -higher(hard[entry].abs()), higher(hard[entry].abs()))
            return out.scatter(1, entry[:, None], value[:, None]).reshape(-1, *scores.shape)

        def change(values: Tensor) -> Tensor:
            delta = flat.new_zeros(len(first)).index_put((index,), values.to(flat) * weight)[stratum]
            delta = torch.where(mass > 0, delta, torch.zeros_like(delta))
            return expected_change(torch.where(delta > 0, flipping, -flipping), delta.clamp(min=0), delta.abs(), q)

        return Moves(stack, change, base=hard.reshape(1, *scores.shape))

    def _key(self, shape: torch.Size, cell: Tensor, device: torch.device) -> Tensor:
        if self.exchangeable == "all":
            return cell
        if self.exchangeable == "sample":
            return samples_of(shape, device) * 4 + cell
        entry = torch.arange(shape.numel(), device=device)
        columns = shape[-1] if len(shape) > 1 else 1
        if self.exchangeable == "column":
            return entry % columns * 4 + cell
        return entry // columns * 4 + cell if self.exchangeable == "row" else entry


class Argmax(Refactoring):
    """Only each row's largest score matters: accuracy, macro-F1, kappa.

    Scores are ``(N, C)`` with ``(N,)`` targets, or ``(N, ..., C)`` with ``(N, ...)``, such as the words of sentences or
    the pixels of images: each of these is a row. The comparisons are ``s_y - s_j`` for every other class j (Eq. 7). The
    moves send a row to another class, softly with the probabilities of a softmax, from where a draw from them has put
    it: see :func:`drawn`.

    Args:
        exchangeable: ``"all"`` where rows of equal target and prediction may be swapped, ``"sample"`` where those of
            one sentence or image may; anything else gives each row moves of its own.
    """

    name: ClassVar[str] = "argmax"
    shapes: ClassVar[Shapes | None] = "classes"

    def __init__(self, *, exchangeable: Exchangeable = "all") -> None:
        self.exchangeable: Exchangeable = checked_choice("exchangeable", exchangeable, EXCHANGEABLE)

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(rows * (C - 1),)``: the target's score minus each other class's."""
        scores, targets = scores.flatten(0, -2), targets.flatten()
        right = scores.gather(1, targets.long()[:, None])
        return (right - scores)[self._others(scores, targets)]

    @staticmethod
    def _others(scores: Tensor, targets: Tensor) -> Tensor:
        return torch.ones_like(scores, dtype=torch.bool).scatter(1, targets.long()[:, None], False)

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The target at 0, each other class below or above it; their order among themselves is that of ``scores``."""
        shape, c = scores.shape, scores.shape[-1]
        scores, targets = scores.flatten(0, -2), targets.flatten()
        order = scores.detach().argsort(1).argsort(1).to(scores) / (2 * c)
        bits = torch.zeros_like(order).masked_scatter(self._others(scores, targets), binaries.to(scores))
        out = order + torch.where(bits > 0, -1.0, 0.5).to(scores)
        return out.scatter(1, targets.long()[:, None], 0.0).reshape(shape)

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """Each target class on top by a margin of at least one; the order below it is drawn anew in each set."""
        noise = torch.rand((count, *scores.shape), generator=generator).to(scores)
        return noise.scatter(-1, targets.long().expand(noise.shape[:-1])[..., None], 2.0)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random class on top in ``flips`` rows of each set."""
        count, c = len(stack), stack.shape[-1]
        out = stack.flatten(1, -2).clone()
        n = out.shape[1]
        rows = torch.rand((count, n), generator=generator).to(stack.device).topk(min(flips, n)).indices
        classes = torch.randint(c, rows.shape, generator=generator).to(stack.device)
        which = torch.arange(count, device=stack.device)[:, None]
        out[which, rows, classes] = higher(bounded(out[which, rows].amax(-1)))
        return out.reshape(stack.shape)

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
        """Rows move to another class; rows of equal target and prediction share moves where they may."""
        shape, sample = scores.shape, samples_of(targets.shape, scores.device)
        scores, targets = scores.flatten(0, -2), targets.long().flatten()
        n, c = scores.shape
        log_share = log_shares(scores, softness)
        if share < 1:
            kept = torch.zeros_like(scores, dtype=torch.bool)
            kept.scatter_(1, scores.detach().topk(max(1, round(share * (c - 1))) + 1, 1).indices, True)
            left_out = ~kept.scatter(1, targets[:, None], True)
            log_share = log_share.masked_fill(left_out, -LIMIT).log_softmax(1)
        probability = log_share.detach().exp()
        predicted = drawn(probability, targets, generator)
        hard = bounded(scores)
        hard = hard.scatter(1, predicted[:, None], higher(hard.amax(1, keepdim=True)))
        cell = targets * c + predicted
        keys = {"all": cell, "sample": sample * c * c + cell}
        stratum, first = first_of_each(keys.get(self.exchangeable, torch.arange(n, device=scores.device)))
        # what is surely wrong is tried as well, however unlikely it is to change
        behind = log_share.detach().gather(1, torch.stack([targets, predicted], 1))
        wrong = (predicted != targets) * leak_rate(behind[:, 0] - behind[:, 1])
        likely = probability.scatter_add(1, targets[:, None], wrong[:, None])
        mass = probability.new_zeros(len(first), c).index_add(0, stratum, likely)
        own, right = predicted[first], targets[first]
        mass = mass.scatter(1, own[:, None], 0.0)
        kept, weight = choose(mass.sum(1), budget, generator)
        mass, own, right = mass[kept], own[kept], right[kept]
        where, to = self._chosen(mass, own, right, budget)

        def stack() -> Tensor:
            row = first[kept[where]]
            out = hard.expand(len(where), n, c).clone()
            out[torch.arange(len(where), device=out.device), row, to] = higher(hard[row].amax(1))
            return out.reshape(-1, *shape)

        def change(values: Tensor) -> Tensor:
            delta = self._filled(values.to(scores), where, to, mass, own, right)
            worth, best, span = worths(delta)
            slot = torch.full((len(first),), -1, device=kept.device)
            slot[kept] = torch.arange(len(kept), device=kept.device)
            rows = slot[stratum]
            heard = rows >= 0  # a stratum that was not drawn is silent; those drawn speak for it by their weights
            rows = rows[heard]
            odds = quality_odds(log_share[heard], worth[rows])
            return expected_change(odds, best[rows] * weight[rows], span[rows] * weight[rows], q)

        def labels() -> Labels:
            size = torch.bincount(stratum)
            more = size > 1  # the rows of a stratum beside the one that moves stay together, as one weighted row
            of = torch.cat([first[more], first])
            out = predicted[of].expand(1 + len(where), -1).clone()
            out[torch.arange(len(where), device=out.device) + 1, int(more.sum()) + kept[where]] = to
            return Labels(out, targets[of], torch.cat([size[more] - 1, torch.ones_like(size)]).to(scores))

        base = hard.reshape(1, *shape)
        return Moves(stack, change, base=base, labels=labels if self.exchangeable == "all" else None)

    @staticmethod
    def _chosen(mass: Tensor, own: Tensor, right: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        """Strata and classes of the moves: one that each stratum cannot do without, then the likeliest others."""
        strata = torch.arange(len(own), device=own.device)
        needed = torch.where(own == right, mass.argmax(1), right)
        others = mass.scatter(1, needed[:, None], 0.0).reshape(-1)
        more = others.topk(min(budget - len(own), int((others > 0).sum()))).indices
        c = mass.shape[1]
        return torch.cat([strata, more // c]), torch.cat([needed, more % c])

    @staticmethod
    def _filled(values: Tensor, where: Tensor, to: Tensor, mass: Tensor, own: Tensor, right: Tensor) -> Tensor:
        """``(K, C)`` change of the metric for every class; an untried wrong class counts as the mean of the tried."""
        delta = torch.zeros_like(mass).index_put((where, to), values)
        tried = torch.zeros_like(mass).index_put((where, to), torch.ones_like(values)).scatter(1, right[:, None], 0.0)
        share = tried * mass
        mean = (share * delta).sum(1) / share.sum(1).clamp(min=torch.finfo(mass.dtype).tiny)
        known = tried.scatter(1, right[:, None], 1.0).scatter(1, own[:, None], 1.0) > 0
        return torch.where(known, delta, mean[:, None])


def drawn(probability: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """One class for each row of ``(N, C)`` probabilities.

    Rows of equal target that predict alike follow each other on an evenly spread sequence (the golden ratio's), so the
    number of rows drawn into each cell of the confusion table stays near its mean.
    """
    top, predicted = probability.max(1)
    order = ((targets * probability.shape[1] + predicted) + top / 2).argsort()
    turn = torch.arange(len(order), dtype=torch.float64) * _GOLDEN + torch.rand((), generator=generator)
    points = torch.empty_like(top).scatter(0, order, (turn % 1).to(top))
    return (probability.cumsum(1) < points[:, None]).sum(1).clamp(max=probability.shape[1] - 1)
