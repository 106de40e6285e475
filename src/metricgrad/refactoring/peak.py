"""Metrics that read where each heat map peaks: percentage of correct key points."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.leak import LIMIT
from metricgrad.metrics.families.pose import check_radius, inside, reach
from metricgrad.refactoring.base import EXCHANGEABLE, Exchangeable, Refactoring, checked_choice
from metricgrad.refactoring.expectation import bounded, higher, log_shares
from metricgrad.refactoring.flips import chosen_flips, flip_mass
from metricgrad.refactoring.moves import EntryMoves, MoveRequest, Moves


class Peak(Refactoring):
    """Only whether each map's largest pixel lies within reach of its point matters.

    Scores are maps ``(R, H, W)``, targets their points ``(R, 2)`` as (x, y); see
    :mod:`metricgrad.metrics.layouts.heat_maps`. The comparisons are the best pixel within reach minus each pixel
    outside. A point that no pixel is near enough to, or that all are, has no comparison and no move. The moves take a
    map's peak to the best pixel on the other side, softly with the share that a softmax over the map gives that side.

    Args:
        radius: as the metric's; see :func:`metricgrad.metrics.families.pose.pck`.
        head_sizes: ``(R,)`` for the batch at hand, or None.
        exchangeable: ``"all"`` where all right maps may share a move and so may all wrong ones, as for PCK; anything
            else gives each map a move of its own.

    References:
        Liu, Wang and Deng, "UniLoss: Unified Surrogate Loss by Adaptive Interpolation", ECCV 2020, section 4 compares
        each positive pixel with each negative one. Here the positive pixels are represented by the best of them,
        which is what the metric reads, so there are no more comparisons than pixels.
    """

    name: ClassVar[str] = "peak"
    axes: ClassVar[tuple[tuple[int, int], ...]] = ((3, 2),)

    def __init__(
        self, *, radius: float | None = None, head_sizes: Tensor | None = None, exchangeable: Exchangeable = "all"
    ) -> None:
        check_radius(radius)
        self.radius, self.head_sizes = radius, head_sizes
        self.exchangeable = checked_choice("exchangeable", exchangeable, EXCHANGEABLE)

    def _near(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """``(R, H * W)`` pixels within reach, and ``(R,)`` whether there are pixels on both sides."""
        if self.head_sizes is not None and len(self.head_sizes) != len(targets):
            raise MetricgradError(f"head_sizes has {len(self.head_sizes)} values for {len(targets)} maps")
        near = inside(targets, reach(self.radius, self.head_sizes, targets), *scores.shape[-2:]).flatten(1)
        return near, near.any(1) & ~near.all(1)

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)``: the best pixel within reach minus each pixel outside, map by map."""
        return self._compared(scores[None], targets)[0]

    def binaries_of(self, stack: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Of all score sets at once."""
        return self._compared(stack, targets) > 0

    def owners(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The map of each comparison."""
        near, both = self._near(scores, targets)
        return (~near & both[:, None]).nonzero()[:, 0]

    def _compared(self, stack: Tensor, targets: Tensor) -> Tensor:
        """``(T, l)``: the comparisons of each of T score sets."""
        near, both = self._near(stack[0], targets)
        flat = stack.flatten(2)
        best = flat.masked_fill(~near, -torch.inf).amax(2, keepdim=True)
        used = (~near & both[:, None]).flatten().nonzero()[:, 0]
        return best.expand(flat.shape).flatten(1)[:, used] - flat.flatten(1)[:, used]

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """0-d; 1 where no map has a comparison."""
        found = self.comparisons(scores.detach(), targets)
        return found.abs().mean() if len(found) else scores.new_ones(())

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """The best pixel within reach at 0, those outside above or below it as the binaries say."""
        return self.score_sets(binaries[None], scores, targets)[0]

    def score_sets(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """See :meth:`scores_from`."""
        near, both = self._near(scores, targets)
        flat = scores.detach().flatten(1)
        order = flat.argsort(1).argsort(1).to(flat) / (2 * flat.shape[1])
        used = ~near & both[:, None]
        right = near.expand(len(binaries), *near.shape).flatten(1).clone()
        right[:, used.flatten()] = binaries
        placed = order + torch.where(right.reshape(len(binaries), *near.shape), -1.0, 0.5)
        best = flat.masked_fill(~near, -torch.inf).argmax(1, keepdim=True)
        placed = placed.scatter(2, best.expand(len(binaries), -1, -1), 0.0)
        return torch.where(both[:, None], placed, flat).reshape(len(binaries), *scores.shape)

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """All pixels within reach above all others, by at least one; which of them is the peak is drawn anew."""
        near, _ = self._near(scores, targets)
        noise = torch.rand((count, *scores.shape), generator=generator).to(scores)
        return noise + 2.0 * near.reshape(scores.shape)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put a random pixel on top in ``flips`` maps of each set."""
        count, rows = stack.shape[:2]
        flat = stack.flatten(2).clone()
        which = torch.arange(count, device=stack.device)[:, None]
        maps = torch.rand((count, rows), generator=generator).topk(min(flips, rows)).indices.to(stack.device)
        pixels = torch.randint(flat.shape[2], maps.shape, generator=generator).to(stack.device)
        flat[which, maps, pixels] = higher(bounded(flat[which, maps].amax(-1)))
        return flat.reshape(stack.shape)

    def moves(self, request: MoveRequest) -> Moves:
        """Peaks go to the other side; of the pixels outside only the best ``share`` count in the softmax."""
        near, both = self._near(request.scores, request.targets)
        hard = bounded(request.scores.flatten(1))
        right = near.gather(1, request.scores.detach().flatten(1).argmax(1, keepdim=True))[:, 0]
        # the softmax of a map says how likely its peak is near; the metric reads only that, so the log-odds of the two
        # sides are the margin of a single decision
        margin = self._log_odds_of_near(request, near)
        flipping = torch.where(right, -margin, margin)
        key = right.long() if self.exchangeable == "all" else torch.arange(len(right), device=right.device)
        # a map without two sides has a stratum without mass, so that nobody speaks for it
        flips = chosen_flips(
            flipping, flip_mass(flipping, ~right) * both, torch.where(both, key, -1 - right.long()), request
        )

        def stack() -> Tensor:
            maps = flips.units
            other = torch.where((near ^ right[:, None])[maps], hard[maps], -torch.inf).argmax(1)
            out = hard.expand(len(maps), *hard.shape).clone()
            out[torch.arange(len(maps), device=out.device), maps, other] = higher(hard[maps].amax(1))
            return out.reshape(-1, *request.scores.shape)

        return EntryMoves(expectation=flips.change, base=hard.reshape(1, *request.scores.shape), stack=stack)

    @staticmethod
    def _log_odds_of_near(request: MoveRequest, near: Tensor) -> Tensor:
        """``(R,)`` log-odds that the peak is near, the best ``share`` of the pixels outside speaking for all."""
        flat, far = request.scores.flatten(1), ~near
        if request.share < 1:
            outside = bounded(flat).masked_fill(near, -torch.inf)
            kept = outside.topk(max(1, round(request.share * flat.shape[1])), 1).indices
            far = far & torch.zeros_like(near).scatter(1, kept, True)
        log_share = log_shares(flat, request.softness)
        # a map without two sides has no move; a large negative number in place of -inf keeps its gradient finite
        sides = (log_share.masked_fill(~side, -LIMIT).logsumexp(1) for side in (near, far))
        return torch.sub(*sides)
