"""What the losses of embeddings share: reading one batch, distances, and sums over triplets that are never listed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.cosines import same_class, similarities
from metricgrad.metrics.decoding import canonical


@dataclass(frozen=True)
class Distances:
    """Euclidean distances of normalised embeddings, each row to all others.

    Attributes:
        values: ``(N, N - 1)`` in [0, 2], with graph.
        same: ``(N, N - 1)`` booleans, whether the other is of the row's class.
    """

    values: Tensor
    same: Tensor

    @property
    def compares(self) -> bool:
        """Whether there is a triplet: a row with another of its class and one of another."""
        return bool((self.same.any(1) & ~self.same.all(1)).any())

    def triplets_of(self, pair_is_positive: bool) -> Tensor:
        """``(N, N - 1)``: in how many triplets each pair stands; 0 for pairs of the other sort."""
        side = self.same if pair_is_positive else ~self.same
        return side * (~side).sum(1, keepdim=True)

    def triplet_hinge(self, margin: float | Tensor) -> tuple[Tensor, Tensor]:
        """Sum over all triplets of max(0, d_ap - d_an + margin), and how many are above 0; O(N^2 log N) time."""
        away = torch.where(self.same, torch.inf, self.values).sort(1).values
        edge = self.values + margin
        nearer = torch.searchsorted(away.detach().contiguous(), edge.detach().contiguous())
        nearer = torch.where(self.same, nearer, 0)
        upto = torch.nn.functional.pad(torch.where(away.isfinite(), away, 0).cumsum(1), (1, 0))
        return (nearer * torch.where(self.same, edge, 0) - upto.gather(1, nearer)).sum(), nearer.sum()


def distances(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Distances:
    """Distances within one batch of embeddings.

    Args:
        scores: ``(N, D)`` embeddings, D of 2 or more, normalised here.
        targets: ``(N,)`` integer class numbers, of any size.
        mask: ``(N,)`` booleans; False rows are left out.

    Raises:
        MetricgradError: for other shapes or targets.
    """
    scores, targets = embedded(scores, targets, mask)
    return Distances(to_others(scores), same_class(targets))


def to_others(embeddings: Tensor) -> Tensor:
    """``(..., N, N - 1)`` distances from 0 to 2 of each of ``(..., N, D)`` embeddings, normalised here, to others."""
    squared = 2 - 2 * similarities(embeddings)
    apart = squared > 4 * torch.finfo(squared.dtype).eps  # what lies below is rounding, and its root has no slope
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def embedded(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``(N, D)`` embeddings and their ``(N,)`` class numbers, checked; only what the mask keeps.

    Raises:
        MetricgradError: for other shapes or targets.
    """
    scores, targets = canonical(scores, targets, mask)
    if scores.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
        raise MetricgradError(
            f"a loss of embeddings needs scores (N, D), D of 2 or more, and integer class numbers (N,), got "
            f"{tuple(scores.shape)} and {targets.dtype} {tuple(targets.shape)}"
        )
    return scores, targets
