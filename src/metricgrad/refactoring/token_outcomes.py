"""What each position of a sentence may predict, as far as the metric can tell: a token of the target, or another.

All tokens that a target does not have are worth the same, so their softmax probabilities are summed: a position has no
more outcomes than the target has tokens, and one, whatever the vocabulary's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.leak import LIMIT, leak_rate
from metricgrad.refactoring.expectation import expected_change, log_shares, quality_odds, worths

OTHER = -2
"""Stands for every token that the target does not have."""

_SURE = 1e-3


@dataclass(frozen=True)
class Outcomes:
    """W + 1 outcomes of each position: the W tokens of its sentence's target, and any other.

    Attributes:
        tokens: ``(N, W)`` of each target, and the end.
        known: ``(N, W)`` whether each is an outcome: neither padding nor unknown, and the first of its kind.
        log_share: ``(N, T, W + 1)`` log-probabilities, finite, differentiable in the scores.
    """

    tokens: Tensor
    known: Tensor
    log_share: Tensor

    @property
    def named(self) -> Tensor:
        """``(N, W + 1)`` the token of each outcome."""
        return torch.cat([self.tokens, self.tokens.new_full((len(self.tokens), 1), OTHER)], 1)

    @property
    def possible(self) -> Tensor:
        """``(N, T, W + 1)`` which of them can be."""
        known = torch.cat([self.known, self.known.new_ones(len(self.known), 1)], 1)
        return known[:, None].expand(self.log_share.shape)

    def drawn(self, generator: torch.Generator) -> Tensor:
        """``(N, T)`` outcomes, one for each position: others are then as uncertain as they are when one moves."""
        share = self.log_share.detach().exp()
        points = torch.rand((*share.shape[:2], 1), generator=generator).to(share) * share.sum(-1, keepdim=True)
        last = share.shape[-1] - 1
        now = (share.cumsum(-1) < points).sum(-1).clamp(max=last)
        # rounding may run past the last outcome that is possible
        return torch.where(self.possible.gather(2, now[..., None])[..., 0], now, last)

    def mass(self, now: Tensor, targets: Tensor) -> Tensor:
        """``(N, T)`` how likely each position changes; what is surely wrong is tried as well, however unlikely."""
        log_share = self.log_share.detach()
        moved = log_share.exp().scatter(2, now[..., None], 0.0).masked_fill(~self.possible, 0.0)
        mine = (self.tokens[:, None, :] == targets[:, :, None]) & self.known[:, None]
        target = log_share.masked_fill(~torch.nn.functional.pad(mine, (0, 1)), -LIMIT).amax(-1, keepdim=True)
        wrong = leak_rate(target - log_share.gather(2, now[..., None]))[..., 0] * mine.any(-1)
        return moved.sum(-1) + wrong

    def others(self, now: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(M,)`` sentences, positions and outcomes: at the K flat positions ``index``, every outcome but the drawn.

        Args:
            now: ``(N, T)`` outcomes drawn.
            index: ``(K,)``.
        """
        chosen = torch.zeros(now.numel(), dtype=torch.bool, device=now.device)
        chosen[index] = True
        changing = self.possible.scatter(2, now[..., None], False) & chosen.reshape(*now.shape, 1)
        row, position, to = changing.nonzero(as_tuple=True)
        return row, position, to

    def change(
        self, delta: Tensor, moves: tuple[Tensor, Tensor, Tensor], index: Tensor, weight: Tensor, q: float
    ) -> Tensor:
        """0-d expected change, from ``(M,)`` changes of the metric at :meth:`others`, weighed by ``(K,)``.

        A position's outcomes are worth between 0 and 1, and its expected worth is a soft decision, as with classes.
        """
        each = self.log_share.new_zeros(self.log_share.shape).index_put(moves, delta.to(self.log_share))
        each, possible = each.flatten(0, 1)[index], self.possible.flatten(0, 1)[index]
        # what cannot be predicted counts as what is predicted now, which changes nothing and has no share
        worth, best, span = worths(each.masked_fill(~possible, 0.0))
        odds = quality_odds(self.log_share.flatten(0, 1)[index], worth)
        return expected_change(odds, best * weight, span * weight, q)


def outcomes_of(scores: Tensor, targets: Tensor, softness: Tensor, *, end: int | None, unknown: int | None) -> Outcomes:
    """Of ``(N, T, V)`` scores for ``(N, T)`` targets; see :class:`metricgrad.refactoring.tokens.Tokens`."""
    tokens = targets.clamp(min=-1)
    if end is not None:
        tokens = torch.cat([tokens, tokens.new_full((len(tokens), 1), end)], 1)
    known = tokens >= 0
    if unknown is not None:
        known = known & (tokens != unknown)
    repeated = (tokens[:, :, None] == tokens[:, None, :]).tril(-1).any(-1)
    known = known & ~repeated
    return Outcomes(tokens, known, _log_shares(log_shares(scores, softness), tokens, known))


def unused(tokens: Tensor, size: int) -> Tensor:
    """``(N,)``: a token that each target does not have, for metrics that are called on scores; 0 where none is."""
    return _used(tokens, size, tokens >= 0).int().argmin(1)


def _log_shares(everything: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
    """``(N, T, W + 1)`` from ``(N, T, V)`` log-probabilities."""
    n, positions, size = everything.shape
    where = tokens.clamp(min=0)[:, None].expand(n, positions, -1)
    each = everything.gather(2, where).masked_fill(~known[:, None], -LIMIT)
    rest = 1 - each.exp().sum(-1, keepdim=True)
    if bool((rest > _SURE).all()):
        return torch.cat([each, rest.log()], -1)
    # where the target's tokens have all of the probability, the difference from 1 has no digits left
    others = everything.masked_fill(_used(tokens, size, known)[:, None], -LIMIT)
    return torch.cat([each, others.logsumexp(-1, keepdim=True)], -1)


def _used(tokens: Tensor, size: int, counted: Tensor) -> Tensor:
    """``(N, V)`` whether each token is among those of a target that count."""
    used = torch.zeros(len(tokens), size + 1, dtype=torch.bool, device=tokens.device)
    return used.scatter_(1, torch.where(counted, tokens, size), True)[:, :size]
