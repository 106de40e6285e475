"""Metrics of sentences that read the likeliest word at each place and compare it with the target's words: BLEU."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.leak import LIMIT, leak_rate
from metricgrad.refactoring.base import (
    Moves,
    Refactoring,
    Words,
    bounded,
    choose,
    expected_change,
    higher,
    log_shares,
    quality_odds,
    worths,
)
from metricgrad.refactoring.labels import Argmax

_OTHER = -2
_SURE = 1e-3


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

    def answers(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(3, N, T)`` words: those said now, those of the target, and words that match nothing."""
        best = targets if self.end is None else torch.where(targets < 0, self.end, targets)
        return torch.stack([scores.detach().argmax(-1), best, torch.full_like(targets, _OTHER)])

    def _ended(self, stack: Tensor, kept: Tensor) -> Tensor:
        if self.end is not None:
            top = higher(stack.amax(-1))
            stack[..., self.end] = torch.where(kept, stack[..., self.end], top)
        return stack

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random word on top at ``flips`` places of each set."""
        return self._rows.perturbed(stack.flatten(1, 2), targets.flatten(), flips, generator).reshape(stack.shape)

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
        """Places say another word of the target, the end, or none of them; from what a draw has them say.

        ``share`` is not used: there is no long list of comparisons to shorten.
        """
        n, places, _ = scores.shape
        words = targets.clamp(min=-1)
        if self.end is not None:
            words = torch.cat([words, words.new_full((n, 1), self.end)], 1)
        known = words >= 0
        if self.unknown is not None:
            known = known & (words != self.unknown)
        repeated = (words[:, :, None] == words[:, None, :]).tril(-1).any(-1)
        known = known & ~repeated
        width = words.shape[1]
        # (N, T, W + 1): of every word of the target, and of all the others together
        log_share = self._log_shares(scores, softness, words, known)
        outcome = log_share.detach().exp()
        possible = torch.cat([known, known.new_ones(n, 1)], 1)[:, None].expand(outcome.shape)
        named = torch.cat([words, words.new_full((n, 1), _OTHER)], 1)
        # from a draw, as rows of classes do: what the other places say is then as uncertain as they are
        points = torch.rand((n, places, 1), generator=generator).to(scores) * outcome.sum(-1, keepdim=True)
        now = (outcome.cumsum(-1) < points).sum(-1).clamp(max=width)
        # rounding may run past the last word that is possible
        now = torch.where(possible.gather(2, now[..., None])[..., 0], now, width)

        moved = outcome.scatter(2, now[..., None], 0.0).masked_fill(~possible, 0.0)
        # what is surely wrong is tried as well, however unlikely it is to change
        mine = (words[:, None, :] == targets[:, :, None]) & known[:, None]
        behind = log_share.detach().masked_fill(~torch.nn.functional.pad(mine, (0, 1)), -LIMIT).amax(-1, keepdim=True)
        wrong = leak_rate(behind - log_share.detach().gather(2, now[..., None]))[..., 0] * mine.any(-1)
        index, weight = choose((moved.sum(-1) + wrong).flatten(), max(1, budget // (width + 1)), generator)
        chosen = torch.zeros(n * places, dtype=torch.bool, device=scores.device)
        chosen[index] = True
        changing = possible.scatter(2, now[..., None], False) & chosen.reshape(n, places, 1)
        row, place, to = changing.nonzero(as_tuple=True)

        def of_words() -> Words:
            return Words(named.gather(1, now), targets, row, place, named[row, to])

        def stack() -> Tensor:
            out = bounded(scores).expand(len(row), -1, -1, -1).clone()
            which = torch.arange(len(row), device=out.device)
            top = higher(out[which, row, place].amax(-1))
            free = self._unused(words, scores.shape[2])
            out[which, row, place, torch.where(to < width, named[row, to], free[row])] = top
            return out

        def change(values: Tensor) -> Tensor:
            delta = outcome.new_zeros(outcome.shape).index_put((row, place, to), values.to(outcome))
            delta, usable = delta.flatten(0, 1)[index], possible.flatten(0, 1)[index]
            # what cannot be said counts as what is said now, which changes nothing and has no share
            worth, best, span = worths(delta.masked_fill(~usable, 0.0))
            odds = quality_odds(log_share.flatten(0, 1)[index], worth)
            return expected_change(odds, best * weight, span * weight, q)

        return Moves(stack, change, words=of_words)

    def _log_shares(self, scores: Tensor, softness: Tensor, words: Tensor, known: Tensor) -> Tensor:
        """``(N, T, W + 1)`` log-probabilities of each word of the target, and of all others together; finite."""
        n, places, _ = scores.shape
        everything = log_shares(scores, softness)
        where = words.clamp(min=0)[:, None].expand(n, places, -1)
        each = everything.gather(2, where).masked_fill(~known[:, None], -LIMIT)
        rest = 1 - each.exp().sum(-1, keepdim=True)
        if bool((rest > _SURE).all()):
            return torch.cat([each, rest.log()], -1)
        # where the target's words have all of the probability, the difference from 1 has no digits left
        others = everything.masked_fill(self._used(words, scores.shape[2], known)[:, None], -LIMIT)
        return torch.cat([each, others.logsumexp(-1, keepdim=True)], -1)

    def _unused(self, words: Tensor, size: int) -> Tensor:
        """``(N,)``: a word that each target does not have, for metrics that are called on scores; 0 where none is."""
        return self._used(words, size, words >= 0).int().argmin(1)

    @staticmethod
    def _used(words: Tensor, size: int, counted: Tensor) -> Tensor:
        """``(N, V)`` whether each word is among those of a target that count."""
        used = torch.zeros(len(words), size + 1, dtype=torch.bool, device=words.device)
        return used.scatter_(1, torch.where(counted, words, size), True)[:, :size]
