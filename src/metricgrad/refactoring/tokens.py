"""Metrics of sentences that read the likeliest word at each place and compare it with the target's words: BLEU."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.fast_paths import OfSentences
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.expectation import bounded, higher
from metricgrad.refactoring.labels import Argmax
from metricgrad.refactoring.moves import EntryMoves, MoveRequest, Moves, WordMoves
from metricgrad.refactoring.strata import choose
from metricgrad.refactoring.token_outcomes import OTHER, outcomes_of, unused


class Tokens(Refactoring):
    """Only the likeliest word at each place matters, and of that only which word of the target it is, if any.

    Scores are ``(N, T, V)``, targets ``(N, T)`` with -1 for padding. The comparisons are ``s_y - s_j`` for every word j
    other than the target y of a place. The moves have a place say another word of its sentence's target, or the end, or
    any other word at all: all words that the target does not have are worth the same, so a place has no more moves than
    the target has words, and their softmax probabilities are summed, whatever the vocabulary's size.

    Args:
        end: number of the word that ends a sentence, or None.
        unknown: number of the word that matches nothing, or None.
    """

    name: ClassVar[str] = "tokens"
    axes: ClassVar[tuple[tuple[int, int], ...]] = ((3, 2),)

    def __init__(self, *, end: int | None = None, unknown: int | None = None) -> None:
        self.end, self.unknown = end, unknown
        self._rows = Argmax(exchangeable="none")

    def check(self, scores: Tensor, targets: Tensor) -> None:
        """Also where the end is none of the words that have scores."""
        super().check(scores, targets)
        if self.end is not None and self.end >= scores.shape[-1]:
            raise MetricgradError(
                f"end is word {self.end}, and scores have words 0 to {scores.shape[-1] - 1}; give the number of the "
                "word that ends a sentence, or leave end out"
            )

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)``: the target's score minus each other word's, padding left out."""
        kept = targets >= 0
        return self._rows.comparisons(scores[kept], targets[kept])

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """0-d; 1 where there is no comparison."""
        found = self.comparisons(scores.detach(), targets)
        return found.abs().mean() if len(found) else scores.new_ones(())

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The target at 0, each other word below or above it; padded places end, or stay as they are."""
        kept = targets >= 0
        out = self._ended(scores.detach().clone()[None], kept)[0]
        out[kept] = self._rows.scores_from(binaries, scores[kept], targets[kept])
        return out

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """Each target word on top by a margin of at least one, and the end on padded places."""
        kept = targets >= 0
        noise = torch.rand((count, *scores.shape), generator=generator).to(scores)
        out = self._ended(noise, kept)
        out[:, kept] = out[:, kept].scatter(2, targets[kept][None, :, None].expand(count, -1, 1), 2.0)
        return out

    def _ended(self, stack: Tensor, kept: Tensor) -> Tensor:
        if self.end is not None:
            top = higher(stack.amax(-1))
            stack[..., self.end] = torch.where(kept, stack[..., self.end], top)
        return stack

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random word on top at ``flips`` places of each set."""
        return self._rows.perturbed(stack.flatten(1, 2), targets.flatten(), flips, generator).reshape(stack.shape)

    def moves(self, request: MoveRequest) -> Moves:
        """Positions predict another token of the target, the end, or none of them; from what a draw has them predict.

        ``share`` is not used: there is no long list of comparisons to shorten.
        """
        scores, targets = request.scores, request.targets
        outcomes = outcomes_of(scores, targets, request.softness, end=self.end, unknown=self.unknown)
        now, named = outcomes.drawn(request.generator), outcomes.named
        positions = max(1, request.budget // named.shape[1])
        index, weight = choose(outcomes.mass(now, targets).flatten(), positions, request.generator)
        row, position, to = moves = outcomes.others(now, index)

        def change(delta: Tensor) -> Tensor:
            return outcomes.change(delta, moves, index, weight, request.q)

        def entries() -> EntryMoves:
            hard, free = bounded(scores), unused(outcomes.tokens, scores.shape[2])[:, None]
            token = torch.where(named == OTHER, free, named)
            base = hard.scatter(2, token.gather(1, now)[..., None], higher(hard.amax(-1, keepdim=True)))
            which = torch.arange(len(row), device=base.device)

            def stack() -> Tensor:
                out = base.expand(len(row), -1, -1, -1).clone()
                out[which, row, position, token[row, to]] = higher(base[row, position].amax(-1))
                return out

            return EntryMoves(expectation=change, base=base[None], stack=stack)

        return WordMoves(
            expectation=change, entries=entries, predicted=named.gather(1, now), targets=targets, row=row,
            position=position, token=named[row, to],
        )  # fmt: skip

    def extremes(self, metric: Metric, batch: Batch, generator: torch.Generator) -> Tensor:
        """Of the tokens alone where the metric takes them: three sets of a vocabulary's scores are long."""
        path = metric.fast_path
        if not isinstance(path, OfSentences):
            return super().extremes(metric, batch, generator)
        predicted = self._extreme_tokens(batch.scores, batch.targets)
        counted = path.counts(predicted, batch.targets.expand(predicted.shape), **metric.fixed)
        return path.value(counted.sum(1), **metric.fixed).to(batch.scores)

    def _extreme_tokens(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(3, N, T)``: those predicted now, those of the target, and tokens that match nothing."""
        best = targets if self.end is None else torch.where(targets < 0, self.end, targets)
        return torch.stack([scores.detach().argmax(-1), best, torch.full_like(targets, OTHER)])
