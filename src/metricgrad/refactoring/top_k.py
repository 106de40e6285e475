"""Metrics that ask whether the target is among the k largest scores of its row."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.leak import margins
from metricgrad.refactoring.base import Refactoring, Shapes
from metricgrad.refactoring.expectation import higher
from metricgrad.refactoring.flips import chosen_flips, flip_mass
from metricgrad.refactoring.moves import EntryMoves, HitMoves, MoveRequest, Moves
from metricgrad.refactoring.strata import most_likely


class TopK(Refactoring):
    """Only whether each row's target is among its k largest scores matters: top-k accuracy, hit rate.

    Scores are ``(N, C)`` with C > k and ``(N,)`` targets, or ``(N, ..., C)`` with ``(N, ...)``. There is one comparison
    a row: the target's score minus the k-th largest of the others.

    Args:
        k: at least 1.
    """

    name: ClassVar[str] = "top_k"
    shapes: ClassVar[Shapes | None] = "classes"

    def __init__(self, *, k: int) -> None:
        if k < 1:
            raise MetricgradError(f"k must be at least 1, got {k}")
        self.k = k

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """One for each row: the target's score minus the k-th largest other."""
        kth, share = self.kth_others(scores.detach(), targets)
        kth = kth + ((scores - scores.detach()) * share).sum(-1)
        return (scores.gather(-1, targets.long()[..., None])[..., 0] - kth).flatten()

    def kth_others(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The k-th largest other score of each row, and how much of it each score is.

        Of others that tie for the place, each is the one in equally many orders.

        Args:
            scores: ``(..., C)`` detached.
            targets: ``(...)``.
        """
        if scores.shape[-1] <= self.k:
            raise MetricgradError(
                f"top-{self.k} of {scores.shape[-1]} classes is always right; choose k below the number of classes"
            )
        others = scores.scatter(-1, targets.long()[..., None], -torch.inf)
        kth = others.topk(self.k, -1).values[..., -1:]
        share = (others == kth).to(scores)
        return kth[..., 0], share.div_(share.sum(-1, keepdim=True))

    def draws_rows(self, scores: Tensor, budget: int) -> bool:
        """Only of more classes and outcomes than the budget allows."""
        return budget < 2 * scores.shape[-1]

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The target above, or below, all other classes of its row."""
        return self.score_sets(binaries[None], scores, targets)[0]

    def score_sets(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """See :meth:`scores_from`."""
        stack = scores.detach().expand(len(binaries), *scores.shape)
        return self._placed(stack, targets, binaries.reshape(len(binaries), *targets.shape))

    @staticmethod
    def _placed(scores: Tensor, targets: Tensor, hit: Tensor) -> Tensor:
        value = torch.where(hit, higher(scores.amax(-1)), -higher(-scores.amin(-1)))
        index = targets.long().expand(scores.shape[:-1])[..., None]
        return scores.scatter(-1, index, value[..., None])

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """The target at a random place among the first k of its row, so that no single order is favoured."""
        noise = torch.rand((count, *scores.shape), generator=generator).to(scores)
        place = torch.randint(min(self.k, scores.shape[-1]), noise.shape[:-1], generator=generator).to(scores.device)
        index = targets.long().expand(place.shape)[..., None]
        others = noise.scatter(-1, index, -1.0).sort(-1, descending=True).values
        high = torch.where(
            place > 0, others.gather(-1, (place - 1).clamp(min=0)[..., None])[..., 0], torch.ones_like(place) * 2.0
        )
        low = others.gather(-1, place[..., None])[..., 0]
        return noise.scatter(-1, index, ((high + low) / 2)[..., None])

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Turn hit into miss, and miss into hit, in ``flips`` rows of each set."""
        count, n = len(stack), targets.numel()
        chosen = torch.rand((count, n), generator=generator).topk(min(flips, n)).indices
        flip = torch.zeros(count, n, dtype=torch.bool).scatter(1, chosen, True).to(stack.device)
        hit = self.binaries_of(stack, targets)
        rows = stack.flatten(1, -2)
        return torch.where(flip[..., None], self._placed(rows, targets.flatten(), ~hit), rows).reshape(stack.shape)

    def moves(self, request: MoveRequest) -> Moves:
        """Rows turn from hit to miss or back; rows of equal class and outcome share one move."""
        shape = request.scores.shape
        scores, targets = request.scores.flatten(0, -2), request.targets.flatten()
        margin = margins(self.comparisons(scores, targets), request.softness)
        hit = self.binaries(scores.detach(), targets)
        flipping = torch.where(hit, -margin, margin)
        mass = most_likely(flip_mass(flipping, ~hit), request.share)
        flips = chosen_flips(flipping, mass, targets.long() * 2 + hit, request)

        def entries() -> EntryMoves:
            # the others' order decides nothing, and beside large scores a step would be lost
            level = torch.zeros_like(scores.detach())
            base, turned = self._placed(level, targets, hit), self._placed(level, targets, ~hit)

            def stack() -> Tensor:
                row = flips.units
                flip = torch.zeros(len(row), len(hit), dtype=torch.bool, device=hit.device).scatter(
                    1, row[:, None], True
                )
                return torch.where(flip[..., None], turned, base).reshape(-1, *shape)

            return EntryMoves(expectation=flips.change, base=base.reshape(1, *shape), stack=stack)

        return HitMoves(expectation=flips.change, hit=hit, row=flips.units, entries=entries)
