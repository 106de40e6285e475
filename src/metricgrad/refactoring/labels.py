"""Metrics of predicted labels: a threshold at 0 for every entry, or an argmax for every row."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.leak import LIMIT, margins
from metricgrad.refactoring.base import EXCHANGEABLE, Exchangeable, Refactoring, Shapes, checked_choice
from metricgrad.refactoring.class_changes import chosen_classes
from metricgrad.refactoring.class_columns import ClassColumns
from metricgrad.refactoring.expectation import bounded, higher, log_shares
from metricgrad.refactoring.flips import chosen_flips, flip_mass
from metricgrad.refactoring.label_moves import LabelMoves
from metricgrad.refactoring.moves import EntryMoves, MoveRequest
from metricgrad.refactoring.strata import most_likely, samples_of

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
        return self.score_sets(binaries[None], scores, targets)[0]

    def score_sets(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """See :meth:`scores_from`."""
        right = 2 * binaries.reshape(len(binaries), *scores.shape).to(scores) - 1
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

    def moves(self, request: MoveRequest) -> EntryMoves:
        """Entries change side; entries of equal target and prediction share one move where they may."""
        shape, flat = request.scores.shape, request.scores.reshape(-1)
        target = request.targets.reshape(-1).long()
        margin = margins(flat, request.softness)
        # moves start from a draw of all sides rather than from the scores': a change is then worth what it is while the
        # other decisions are as uncertain as their sigmoids say, which makes the sum over entries exact to first order
        soft = margin.detach().sigmoid()
        up = drawn(torch.stack([1 - soft, soft], 1), target, request.generator) > 0
        hard = torch.where(up, 1.0, -1.0).to(flat) * higher(bounded(flat).abs())
        flipping = torch.where(up, -margin, margin)
        mass = most_likely(flip_mass(flipping, up != (target > 0)), request.share)
        flips = chosen_flips(flipping, mass, self._key(shape, target * 2 + up, request.groups), request)

        def stack() -> Tensor:
            entry = flips.units
            out = hard.expand(len(entry), -1).clone()
            value = torch.where(up[entry], -higher(hard[entry].abs()), higher(hard[entry].abs()))
            return out.scatter(1, entry[:, None], value[:, None]).reshape(-1, *shape)

        return EntryMoves(expectation=flips.change, base=hard.reshape(1, *shape), stack=stack)

    def _key(self, shape: torch.Size, cell: Tensor, groups: Tensor | None) -> Tensor:
        if self.exchangeable == "all":
            return cell
        if self.exchangeable == "sample":
            return samples_of(shape, cell.device) * 4 + cell
        entry = torch.arange(shape.numel(), device=cell.device)
        if self.exchangeable == "group" and groups is not None:
            return groups[entry // shape[1:].numel()] * 4 + cell
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
        return self._compared(scores[None], targets)[0]

    def binaries_of(self, stack: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Of all score sets at once."""
        return self._compared(stack, targets) > 0

    def owners(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The row of each comparison."""
        return self._others(scores, targets) // scores.shape[-1]

    def _compared(self, stack: Tensor, targets: Tensor) -> Tensor:
        """``(T, rows * (C - 1))``: the comparisons of each of T score sets."""
        index = targets.long().expand(stack.shape[:-1])[..., None]
        return (stack.gather(-1, index) - stack).flatten(1)[:, self._others(stack[0], targets)]

    @staticmethod
    def _others(scores: Tensor, targets: Tensor) -> Tensor:
        """``(rows * (C - 1),)`` where the other classes are among all scores."""
        other = torch.ones_like(scores, dtype=torch.bool).scatter(-1, targets.long()[..., None], False)
        return other.flatten().nonzero()[:, 0]

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The target at 0, each other class below or above it; their order among themselves is that of ``scores``."""
        return self.score_sets(binaries[None], scores, targets)[0]

    def score_sets(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """See :meth:`scores_from`."""
        order = scores.detach().argsort(-1).argsort(-1).to(scores) / (2 * scores.shape[-1])
        above = order.new_full((len(binaries), order.numel()), 0.5)
        above[:, self._others(scores, targets)] = 0.5 - 1.5 * binaries.to(scores)
        out = order + above.reshape(len(binaries), *scores.shape)
        return out.scatter(-1, targets.long().expand(out.shape[:-1])[..., None], 0.0)

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

    def moves(self, request: MoveRequest) -> LabelMoves:
        """Rows move to another class; rows of equal target and prediction share moves where they may.

        Cost: O(R C) for the soft decisions. All else is of the classes that are a target or a prediction and, where the
        metric cannot tell the others apart, of one class that stands for them.
        """
        shape, scores, targets = request.scores.shape, request.scores.flatten(0, -2), request.targets.long().flatten()
        log_share = self._log_shares(scores, targets, request)
        # from a draw of all rows, for the reason that thresholds have
        predicted = drawn(log_share.detach().exp(), targets, request.generator)
        sample = samples_of(request.targets.shape, scores.device)
        key = self._key(sample, targets, predicted, scores, request.groups)
        columns = ClassColumns.over(scores.shape[1], torch.cat([targets, predicted]), request.names)
        own, right = columns.of[predicted], columns.of[targets]
        choices = chosen_classes(columns.grouped(log_share), own, right, key, request)

        def entries() -> EntryMoves:
            hard = bounded(scores)
            hard = hard.scatter(1, predicted[:, None], higher(hard.amax(1, keepdim=True)))

            def stack() -> Tensor:
                row = choices.rows
                out = hard.expand(len(row), *hard.shape).clone()
                out[torch.arange(len(row), device=out.device), row, columns.classes[choices.to]] = higher(
                    hard[row].amax(1)
                )
                return out.reshape(-1, *shape)

            return EntryMoves(expectation=choices.change, base=hard.reshape(1, *shape), stack=stack)

        return LabelMoves(changes=choices, predicted=own, targets=right, entries=entries)

    def _key(self, sample: Tensor, targets: Tensor, predicted: Tensor, scores: Tensor, groups: Tensor | None) -> Tensor:
        """``(R,)`` equal for rows that share moves."""
        n, c = scores.shape
        cell = targets * c + predicted
        keys = {"all": cell, "sample": sample * c * c + cell}
        if groups is not None:
            keys["group"] = groups * c * c + cell
        return keys.get(self.exchangeable, torch.arange(n, device=scores.device))

    @staticmethod
    def _log_shares(scores: Tensor, targets: Tensor, request: MoveRequest) -> Tensor:
        """``(R, C)`` log-probabilities; under a share, of the likeliest classes and the target alone."""
        log_share = log_shares(scores, request.softness)
        if request.share >= 1:
            return log_share
        most = max(1, round(request.share * (scores.shape[1] - 1))) + 1
        kept = torch.zeros_like(scores, dtype=torch.bool)
        kept.scatter_(1, scores.detach().topk(most, 1).indices, True)
        left_out = ~kept.scatter(1, targets[:, None], True)
        return log_share.masked_fill(left_out, -LIMIT).log_softmax(1)


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
