"""Metrics of where each heat map has its peak: PCK, PCKh."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.metrics.pose import distances
from metricgrad.refactoring.base import Moves, Refactoring, choose, expected_change


class Peak(Refactoring):
    """Only whether each heat map's largest pixel lies near the true point matters.

    Scores are ``(N, P)`` heat maps, targets ``(N,)`` pixel numbers ``y * W + x``. The comparisons are each pixel near
    the true point against each pixel far from it (UniLoss, Table 1, PCKh). The moves send a peak from near to far or
    back, softly with the share of a softmax over the pixels that lies near.

    With head sizes the metric's own radius differs from row to row; the refactoring does not see them and takes
    ``radius`` pixels for all. The metric that is called is the true one, so a peak within both radii counts right, and
    a row whose move changes nothing has no gradient.

    Args:
        width: of a heat map; 0 for squares.
        radius: in pixels; a pixel at this distance is still near.
    """

    name: ClassVar[str] = "peak"

    def __init__(self, *, width: int = 0, radius: float = 1.0) -> None:
        self.width, self.radius = width, radius

    def near(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(N, P)`` booleans: the pixels near the true point."""
        pixels = torch.arange(scores.shape[1], device=scores.device)
        return distances(pixels[None], targets.long()[:, None], scores.shape[1], self.width) <= self.radius

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` near minus far, row by row. O(N P) memory for each near pixel."""
        row, upper, lower = self._pairs(scores, targets)
        return scores[row, upper] - scores[row, lower]

    def _pairs(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        near = self.near(scores, targets)
        row, upper, lower = (near[:, :, None] & ~near[:, None, :]).nonzero(as_tuple=True)
        return row, upper, lower

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Far pixels on a ladder by comparisons lost, near ones above as many as they beat."""
        row, upper, lower = self._pairs(scores, targets)
        near = self.near(scores, targets)
        bits = binaries.to(scores)
        zeros = torch.zeros_like(scores.detach())
        won = zeros.index_put((row, upper), bits, accumulate=True)
        lost = zeros.index_put((row, lower), bits, accumulate=True).masked_fill(near, -1.0)
        ladder = lost.argsort(1, descending=True).argsort(1).to(scores)
        return torch.where(near, won - 0.5, ladder)

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """A peak at the true pixel, the order of all others drawn anew; near pixels stand above far ones."""
        noise = torch.rand((count, *scores.shape), generator=generator).to(scores)
        raised = noise + self.near(scores, targets).to(scores)
        return raised.scatter(2, targets.long()[None, :, None].expand(count, -1, 1), 3.0)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random pixel on top in ``flips`` rows of each set."""
        count, n, p = stack.shape
        rows = torch.rand((count, n), generator=generator).to(stack.device).topk(min(flips, n)).indices
        pixels = torch.randint(p, rows.shape, generator=generator).to(stack.device)
        out = stack.clone()
        which = torch.arange(count, device=stack.device)[:, None]
        out[which, rows, pixels] = stack[which, rows].amax(-1) + 1.0
        return out

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
        """Each row's peak goes to the true pixel, or from near to the highest far pixel."""
        hard, near = scores.detach(), self.near(scores, targets)
        hit = near.gather(1, hard.argmax(1, keepdim=True))[:, 0]
        logits = scores / softness
        if share < 1:
            kept = torch.zeros_like(near).scatter(1, hard.topk(max(2, round(share * hard.shape[1])), 1).indices, True)
            logits = logits.masked_fill(~(kept | near), -torch.inf)
        inside = (logits.softmax(1) * near).sum(1)
        other = torch.where(hit, 1 - inside, inside)
        # a row that misses badly has hardly any mass within reach, yet it is the one to be moved
        mass = torch.where(hit, other, 1 - other).detach() * (~near).any(1)
        index, weight = choose(mass, budget, generator)

        def stack() -> Tensor:
            far = hard.masked_fill(near, -torch.inf).argmax(1)
            to = torch.where(hit, far, targets.long())[index]
            out = hard.expand(len(index), *hard.shape).clone()
            out[torch.arange(len(index), device=out.device), index, to] = hard[index].amax(1) + 1.0
            return out

        def change(values: Tensor) -> Tensor:
            delta = values.to(scores) * weight
            gains = delta > 0
            quality = torch.where(gains, other[index], 1 - other[index])
            return expected_change(quality, delta.clamp(min=0), delta.abs(), q)

        return Moves(stack, change)
