"""Metrics of embeddings: which of its own class stand above which others in each row's list of neighbours."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.cosines import same_class, similarities, unit_rows
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.moves import MoveRequest, Moves
from metricgrad.refactoring.ranking.rankings import PositivesOverNegatives


class Neighbours(Refactoring):
    """Each row of the similarity matrix is a list in which the row's own class belongs above all other classes.

    Scores are embeddings ``(N, D)``, D of 2 or more, targets class numbers ``(N,)``. The comparisons of row i are
    ``cos(i, p) - cos(i, n)`` for each p of its class and each n of another, differentiable through both embeddings and
    through their length. It is :class:`metricgrad.refactoring.ranking.rankings.PositivesOverNegatives` by row, on the
    similarity matrix without its diagonal. A local move shifts one similarity past its neighbours in the row, which no
    set of embeddings need realise: see :mod:`metricgrad.losses.interpolated.lists.neighbours`. Anchors for inverse
    distances are true sets of embeddings.

    Cost for P others of its class to a row: O(N^2 (D + P)) time; :meth:`comparisons`, and with it inverse distances,
    O(N^2 P) memory, for each anchor in turn.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> found = Neighbours().comparisons(embeddings, torch.tensor([4, 4, 9]))
        >>> found.float()  # 0 and 1 alike; 1 is as near to 2 as to 0
        tensor([0.7071, 0.0000])
    """

    name: ClassVar[str] = "neighbours"
    axes: ClassVar[tuple[tuple[int, int], ...]] = ((2, 1),)
    sharpest: ClassVar[float] = 0.01
    #: Of many neighbours the nearest decide, and they stand closer together than the mean comparison says.
    relative: ClassVar[float] = 0.15

    def __init__(self) -> None:
        self._by_row = PositivesOverNegatives(within="row")

    def draws_rows(self, scores: Tensor, budget: int) -> bool:
        """All rows are looked at."""
        return False

    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)``: in each row, the similarity to each of its class minus that to each of the others."""
        return self._by_row.comparisons(similarities(scores), same_class(targets))

    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Embeddings that realise the binaries as far as D dimensions can; warns of how many they miss.

        Ideal ones where all binaries hold, the current ones where they do already; otherwise each row's order by its
        comparisons won, made symmetric and factored (classical scaling).
        """
        hard = scores.detach()
        if bool(binaries.all()):
            return self.ideal(hard, targets, 1, torch.Generator().manual_seed(0))[0]
        if torch.equal(self.binaries(hard, targets), binaries):
            return hard
        similar, relevant = similarities(hard), same_class(targets)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missed is counted below
            ranks = self._by_row.scores_from(binaries, similar, relevant)
        low, high = ranks.amin(1, keepdim=True), ranks.amax(1, keepdim=True)
        wanted = 2 * (ranks - low) / (high - low).clamp(min=1) - 1
        count = len(targets)
        square = torch.eye(count, dtype=hard.dtype, device=hard.device)
        square[~square.bool()] = wanted.flatten().to(square)
        values, vectors = torch.linalg.eigh((square + square.mT) / 2)
        out = vectors[:, -scores.shape[1] :] * values[-scores.shape[1] :].clamp(min=0).sqrt()
        out = torch.nn.functional.pad(unit_rows(out), (0, scores.shape[1] - out.shape[1]))
        off = int((self.binaries(out, targets) != binaries).sum())
        if off:
            warnings.warn(
                f"{off} of {len(binaries)} binaries are not realised: the similarities of {count} embeddings in "
                f"{scores.shape[1]} dimensions hang together; the nearest by classical scaling are returned",
                stacklevel=2,
            )
        return out

    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """Each class around a direction of its own, anew in each set; the directions are far apart where they fit."""
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise MetricgradError(f"embeddings need 2 dimensions or more, got scores of shape {tuple(scores.shape)}")
        numbers, number = targets.unique(return_inverse=True)
        classes = len(numbers)
        sets = [_directions(classes, scores.shape[1], generator).to(scores) for _ in range(count)]
        out = []
        for centres in sets:
            apart = torch.cdist(centres, centres).fill_diagonal_(math.inf).amin() if classes > 1 else torch.tensor(1.0)
            noise = unit_rows(torch.randn(scores.shape, generator=generator).to(scores))
            out.append(centres[number] + noise * apart.to(scores) / 16)
        return torch.stack(out) if out else scores.new_zeros(0, *scores.shape)

    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """Put ``flips`` embeddings of each set where other randomly chosen ones stand."""
        count, n, width = stack.shape
        chosen = torch.rand((count, n), generator=generator).topk(min(flips, n)).indices.to(stack.device)
        place = torch.randint(n, chosen.shape, generator=generator).to(stack.device)
        jitter = 1e-3 * torch.randn((*chosen.shape, width), generator=generator).to(stack)
        moved = stack.gather(1, place[..., None].expand(-1, -1, width))
        size = moved.norm(dim=-1, keepdim=True)
        return stack.scatter(1, chosen[..., None].expand(-1, -1, width), moved + jitter * size)

    def moves(self, request: MoveRequest) -> Moves:
        """None that all metrics could be called on.

        Raises:
            MetricgradError: always.
        """
        raise MetricgradError(
            "a single similarity moves only for a metric that is known as a mean over rows, as 'map_at_r' and "
            "'retrieval_recall' are; pass interpolation='inverse_distance', which calls the metric on whole sets of "
            "embeddings"
        )

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Mean absolute comparison, row by row; zero where there is nothing to compare."""
        similar, relevant = similarities(scores.detach()), same_class(targets)
        total, pairs = similar.new_zeros(()), similar.new_zeros(())
        for row, mine in zip(similar, relevant, strict=True):
            above, below = row[mine], row[~mine].sort().values
            if len(above) and len(below):
                ahead = torch.searchsorted(below, above)
                upto = torch.cat([below.new_zeros(1), below.cumsum(0)])
                total += (above * (2 * ahead - len(below)) + upto[-1] - 2 * upto[ahead]).sum()
                pairs += len(above) * len(below)
        return total / pairs.clamp(min=1)


def _directions(classes: int, width: int, generator: torch.Generator) -> Tensor:
    """``(C, D)`` unit vectors in float64: evenly on a circle, at right angles where they fit, random otherwise."""
    if width == 2:
        turn = torch.rand(1, generator=generator, dtype=torch.float64)
        angle = 2 * math.pi * (turn + torch.randperm(classes, generator=generator) / max(1, classes))
        return torch.stack([angle.cos(), angle.sin()], 1)
    random = torch.randn(max(classes, 1), width, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(random.mT).Q.mT[:classes] if classes <= width else unit_rows(random)
