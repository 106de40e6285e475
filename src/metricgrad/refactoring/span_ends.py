"""Metrics of answer spans: which token starts the answer, and which ends it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.refactoring.base import Moves, Refactoring
from metricgrad.refactoring.labels import Argmax


class SpanEnds(Refactoring):
    """Each start and each end is a choice of one token, as a class is chosen by :class:`Argmax`.

    Scores are ``(N, 2, L)``, targets ``(N, 2)``; see :mod:`metricgrad.metrics.passages`. The comparisons are the true
    start's score minus every other token's, and the same of the ends. A move takes a start or an end elsewhere while
    the other stays where a draw from its softmax has put it, so a span that is right at one end is worth the tokens it
    covers. Metrics that decode the best span with start <= end read more than the two choices only where the largest
    start comes after the largest end: a move there changes nothing, or moves the other end along. That costs no
    training: from random scores, F1 with and without the order in the decoding are learned alike, because the moves
    that keep the order teach all the same.
    """

    name: ClassVar[str] = "span_ends"

    def __init__(self) -> None:
        self._ends = Argmax(exchangeable="none")

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(2 N (L - 1),)``: the true token's score minus each other's, starts and ends of a passage in turn."""
        return self._ends.comparisons(scores.flatten(0, 1), targets.flatten())

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The true tokens at 0, others below or above them as the binaries say."""
        return self._ends.scores_from(binaries, scores.flatten(0, 1), targets.flatten()).reshape(scores.shape)

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """Each true start and end on top by a margin of at least one."""
        found = self._ends.ideal(scores.flatten(0, 1), targets.flatten(), count, generator)
        return found.reshape(count, *scores.shape)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random token on top of ``flips`` starts or ends of each set."""
        return self._ends.perturbed(stack.flatten(1, 2), targets.flatten(), flips, generator).reshape(stack.shape)

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
        """Starts and ends move to other tokens, one at a time."""
        moves = self._ends.moves(
            scores.flatten(0, 1), targets.flatten(), softness=softness, q=q, budget=budget, share=share,
            generator=generator,
        )  # fmt: skip
        assert moves.base is not None
        return Moves(
            lambda: moves.stack().reshape(-1, *scores.shape), moves.change, base=moves.base.reshape(scores.shape)
        )
