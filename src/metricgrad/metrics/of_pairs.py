"""Metrics of how many pairs of a list stand the right way up, and all metrics of ranked lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.metrics.fast_paths import FastPath, Missing
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.metrics.of_ranks import OfRanks


@dataclass(frozen=True)
class OfPairs(FastPath):
    r"""Kendall's tau-b, :math:`(C - D) / \sqrt{n_t n_s}`, of C concordant and D discordant pairs.

    :math:`n_t` and :math:`n_s` are the pairs whose targets, and whose scores, differ.

    Attributes:
        missing: see :data:`metricgrad.metrics.fast_paths.Missing`.
        of_values: targets are values, one for each score, of lists of one length.
    """

    missing: ClassVar[Missing] = "nan"
    of_values: ClassVar[bool] = True

    def worth(self, apart: Tensor, size: int, **_: Any) -> Tensor:
        """``(L,)``: what each pair the right way up adds more than one that is not, where no scores tie.

        Args:
            apart: ``(L,)`` float64, in how many pairs of each list targets differ; NaN is returned where in none.
            size: of each list.
        """
        return 2 / torch.where(apart > 0, apart * (size * (size - 1) / 2), torch.nan).sqrt()

    def value(self, excess: Tensor, apart: Tensor, ordered: Tensor, **_: Any) -> Tensor:
        """``(L,)``: of C - D and of how many pairs differ in targets, and in scores; 0 where no scores do."""
        found = excess / torch.where(ordered > 0, apart * ordered, 1).sqrt()
        return torch.where(apart > 0, found, torch.nan)


#: A metric of ranked lists, of which there may be several.
OfLists = OfCounts | OfRanks | OfPairs
