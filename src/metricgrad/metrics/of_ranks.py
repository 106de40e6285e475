"""Metrics that add up, over the items of a ranked list, what each gains times a discount of its rank."""

from __future__ import annotations

import abc
import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, filled
from metricgrad.metrics.fast_paths import FastPath, Missing
from metricgrad.precision import wide, wide_dtype


class OfRanks(FastPath, abc.ABC):
    """Abstract: a metric of lists side by side, of which gains are ``(L, M)`` and ranks count from 1 at the top.

    Attributes:
        missing: see :data:`metricgrad.metrics.fast_paths.Missing`.
        of_values: whether targets are values, one for each score, of lists of one length.
    """

    missing: ClassVar[Missing]
    of_values: ClassVar[bool] = False

    @abc.abstractmethod
    def gains(self, relevance: Tensor, empty: Tensor | None, **parameters: Any) -> Tensor:
        """``(L, M)`` float64, 0 in empty places; NaN in a list whose metric is undefined whatever the scores."""

    @abc.abstractmethod
    def discount(self, rank: Tensor, **parameters: Any) -> Tensor:
        """Of ranks from 1, which may be between two."""

    @abc.abstractmethod
    def ideal(self, gains: Tensor) -> Tensor:
        """``(L,)``: the metric where items stand as their targets do."""

    @abc.abstractmethod
    def shown(self, total: Tensor, ranks: Tensor) -> Tensor:
        """``(L,)``: the metric, from the sums of gains times discounts and ``(L, M)`` ranks, of ties their mean."""

    def of_places(self, count: int, device: torch.device, **parameters: Any) -> tuple[Tensor, Tensor]:
        """``(count,)`` discounts of the places, and ``(2, count + 2)`` how much more they are one later, and sooner.

        Of the latter the first stand behind two zeros, the others between two: at k of place k - 1, and of place k.
        """
        return _of_places(self, count, device, tuple(parameters.items()))


@dataclass(frozen=True)
class DiscountedGain(OfRanks):
    """NDCG.

    Attributes:
        k: how many of the first items count, where the metric's own parameters do not say; None for all.
    """

    k: int | None = None
    missing: ClassVar[Missing] = "zero"

    def gains(
        self,
        relevance: Tensor,
        empty: Tensor | None,
        *,
        k: int | None = None,
        exponential: bool = False,
        **_: Any,
    ) -> Tensor:
        """In shares of the best there can be; zeros where nothing is relevant."""
        gains = wide(relevance)
        if empty is not None:
            gains = gains.masked_fill(empty, 0)
        most = gains.amax(1, keepdim=True)
        # in shares of the largest, so that nothing overflows
        gains = torch.exp2(gains - most) - torch.exp2(-most) if exponential else gains / most
        if empty is not None and exponential:
            gains = gains.masked_fill(empty, 0)
        best = gains.sort(1, descending=True).values @ self.of_places(gains.shape[1], gains.device, k=k)[0]
        return (gains / best[:, None]).nan_to_num(0, 0, 0)

    def discount(self, rank: Tensor, *, k: int | None = None, **_: Any) -> Tensor:
        """``1 / log2(1 + rank)``, and 0 beyond the first k."""
        k, found = self.k if k is None else k, math.log(2) / torch.log1p(rank)
        return found if k is None else found * (rank <= k)

    def ideal(self, gains: Tensor) -> Tensor:
        """1, or 0 where nothing is relevant."""
        return gains.any(1).to(gains)

    def shown(self, total: Tensor, ranks: Tensor) -> Tensor:
        """The sum."""
        return total


@dataclass(frozen=True)
class RankCorrelation(OfRanks):
    """Spearman's."""

    missing: ClassVar[Missing] = "nan"
    of_values: ClassVar[bool] = True

    def gains(self, relevance: Tensor, empty: Tensor | None, **_: Any) -> Tensor:
        """How far up each belongs, over what the correlation of strict orders divides by."""
        assert empty is None
        ordered, order = relevance.contiguous().sort(1)
        first, past = (torch.searchsorted(ordered, ordered, right=right) for right in (False, True))
        n, nothing = relevance.shape[1], filled(0.0, 1, wide_dtype(order.device), order.device)
        twice = torch.empty_like(first).scatter_(1, order, first + past)
        away = twice - filled(n, 1, nothing.dtype, order.device)
        norm = torch.linalg.vector_norm(away, dim=1, keepdim=True)
        return torch.addcdiv(nothing, away, norm, value=1 / _spread(n))

    def discount(self, rank: Tensor, **_: Any) -> Tensor:
        """The rank itself, turned round."""
        return -rank

    def ideal(self, gains: Tensor) -> Tensor:
        """1; NaN where all belong equally far up."""
        one = filled(1.0, 1, gains.dtype, gains.device)
        return torch.add(one, gains[:, 0], alpha=0)

    def shown(self, total: Tensor, ranks: Tensor) -> Tensor:
        """Ranks that tie spread less; where all do, nothing is ordered, and 0."""
        n = ranks.shape[1]
        away = torch.linalg.vector_norm(ranks - (n + 1) / 2, dim=1)  # two ranks that differ are half away, or more
        return torch.addcdiv(filled(0.0, 1, total.dtype, total.device), total, away.clamp(min=0.5), value=_spread(n))


def _spread(n: int) -> float:
    """How far from their mean n ranks are together; 1 for a single one, of which nothing is asked."""
    return math.sqrt(n * (n * n - 1) / 12) if n > 1 else 1.0


@functools.lru_cache(maxsize=32)
def _of_places(
    path: OfRanks, count: int, device: torch.device, parameters: tuple[tuple[str, Any], ...]
) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        found = path.discount(counted(count + 2, wide_dtype(device), device, least=1), **dict(parameters))
        step = found.diff()  # from a place to the next; from before the first to the first there is none
        later, sooner = torch.nn.functional.pad(step[1:], (2, 0)), torch.nn.functional.pad(-step[:-1], (1, 1))
        return found[1:-1], torch.stack([later, sooner])
