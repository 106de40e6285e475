"""Metrics of answer spans: which token starts the answer, and which ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.labels import Argmax
from metricgrad.refactoring.moves import EntryMoves, MoveRequest, Moves


class SpanEnds(Refactoring):
    """Each start and each end is a choice of one token, as a class is chosen by :class:`Argmax`.

    Scores are ``(N, 2, L)``, targets ``(N, 2)``; see :mod:`metricgrad.metrics.layouts.spans`. The comparisons are the
    true start's score minus every other token's, and the same of the ends. A move takes a start or an end elsewhere
    while the other stays where a draw from its softmax has put it, so a span that is right at one end is worth the
    tokens it covers. Metrics that decode the best span with start <= end read more than the two choices only where the
    start comes after the end: a move that breaks the order takes the other end along, to the best token that keeps it.
    That costs no training: from random scores, F1 decoded with the order is learned as fast as F1 decoded without it.
    """

    name: ClassVar[str] = "span_ends"
    axes: ClassVar[tuple[tuple[int, int], ...]] = ((3, 2),)

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
        """Each true start and end on top by a margin of at least one, a token outside the answer at the bottom of both.

        The opposite of these scores then answers with a token that the answer does not have, where there is one.
        """
        found = self._ends.ideal(scores.flatten(0, 1), targets.flatten(), count, generator)
        found = found.reshape(count, *scores.shape)
        token = torch.arange(scores.shape[2], device=scores.device)
        outside = (token < targets[:, :1]) | (token > targets[:, 1:])
        drawn = torch.rand((count, *outside.shape), generator=generator).to(scores)
        chosen = drawn.masked_fill(~outside, -1.0).argmax(-1)
        bottom = nn.functional.one_hot(chosen, scores.shape[2]).bool() & outside
        return found.masked_fill(bottom[:, :, None], -1.0)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random token on top of ``flips`` starts or ends of each set."""
        return self._ends.perturbed(stack.flatten(1, 2), targets.flatten(), flips, generator).reshape(stack.shape)

    def moves(self, request: MoveRequest) -> Moves:
        """Starts and ends move to other tokens, one at a time."""
        shape = request.scores.shape
        of_ends = self._ends.moves(
            replace(request, scores=request.scores.flatten(0, 1), targets=request.targets.flatten())
        )
        entries = of_ends.entries()
        drawn = entries.base[0].reshape(shape)
        first = nn.functional.one_hot(drawn[:, 0].argmax(-1), shape[2]).to(drawn)
        # where the draws break the order the start has its way, and a moved end is as far above as any other start can
        # be below: no two sums are then equal but for rounding
        base = drawn + 0.5 * torch.stack([first, torch.zeros_like(first)], 1)
        above = float(base.amax() - base.amin()) + 2.0 if base.numel() else 0.0

        def stack() -> Tensor:
            moved = entries.stack().reshape(-1, *shape)
            return torch.add(base, moved - drawn, alpha=above)  # a moved end stands at least 1 above where it was

        return EntryMoves(expectation=of_ends.change, base=base[None], stack=stack)
