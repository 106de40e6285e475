"""Metrics that add up, over the items of a ranked list, what each gains times a discount of its rank."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.functional.ranks import hard_rank
from metricgrad.metrics.fast_paths import FastPath, Missing
from metricgrad.precision import wide


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
    def total(self, gains: Tensor, discounts: Tensor) -> Tensor:
        """``(L,)``: the metric, where items of equal scores share their mean discount."""


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
        gains = torch.exp2(gains - most) - torch.exp2(-most) if exponential else gains / most.where(most > 0, 1)
        if empty is not None and exponential:
            gains = gains.masked_fill(empty, 0)
        rank = torch.arange(1, gains.shape[1] + 1, device=gains.device)
        best = (gains.sort(1, descending=True).values * self.discount(wide(rank.float()), k=k)).sum(1, keepdim=True)
        return torch.where(best > 0, gains / best, 0)

    def discount(self, rank: Tensor, *, k: int | None = None, **_: Any) -> Tensor:
        """``1 / log2(1 + rank)``, and 0 beyond the first k."""
        k, found = self.k if k is None else k, math.log(2) / torch.log1p(rank)
        return found if k is None else found * (rank <= k)

    def ideal(self, gains: Tensor) -> Tensor:
        """1, or 0 where nothing is relevant."""
        return gains.any(1).to(gains)

    def total(self, gains: Tensor, discounts: Tensor) -> Tensor:
        """The sum."""
        return (gains * discounts).sum(1)


@dataclass(frozen=True)
class RankCorrelation(OfRanks):
    """Spearman's."""

    missing: ClassVar[Missing] = "nan"
    of_values: ClassVar[bool] = True

    def gains(self, relevance: Tensor, empty: Tensor | None, **_: Any) -> Tensor:
        """How far up each belongs, over what the correlation of strict orders divides by."""
        assert empty is None
        ranks = hard_rank(relevance)
        away = ranks - ranks.mean(1, keepdim=True)
        n = relevance.shape[1]
        spread = (away.square().sum(1, keepdim=True) * (n * (n * n - 1) / 12)).sqrt()
        return away / torch.where(spread > 0, spread, torch.nan)

    def discount(self, rank: Tensor, **_: Any) -> Tensor:
        """The rank itself, turned round."""
        return -rank

    def ideal(self, gains: Tensor) -> Tensor:
        """1; NaN where all belong equally far up."""
        return torch.where(gains[:, 0].isfinite(), 1.0, torch.nan).to(gains)

    def total(self, gains: Tensor, discounts: Tensor) -> Tensor:
        """Ranks that tie spread less; where all do, nothing is ordered, and 0."""
        n = gains.shape[1]
        spread = (discounts - discounts.mean(1, keepdim=True)).square().sum(1) / (n * (n * n - 1) / 12)
        return (gains * discounts).sum(1) / torch.where(spread > 0, spread.sqrt(), 1)
