"""Rank correlation of scores and targets: over all rows, or for each column of ``(N, C)`` targets and averaged.

NaN where the scores or the targets are constant, as in SciPy; a constant column makes the average NaN as well.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from metricgrad.functional import correlation
from metricgrad.functional.by_group import by_group
from metricgrad.metrics.families.values import check_values
from metricgrad.metrics.of_pairs import OfPairs
from metricgrad.metrics.of_ranks import RankCorrelation
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure

_CONTEXT = ("parts",)
_Correlation = Callable[[Tensor, Tensor], Tensor]
_STRUCTURE = Structure("ranking", "all", {"within": "auto", "two_d": "column"})


def _by_column(fn: _Correlation, scores: Tensor, targets: Tensor, parts: Tensor | None, metric: str) -> Tensor:
    check_values(scores, targets, metric)
    if parts is not None:
        return by_group(lambda s, t: fn(s.movedim(-1, 0), t).mT, parts, scores.mT, targets)[1].mean(0)
    if scores.ndim == 2:
        return fn(scores, targets)
    return fn(scores.mT, targets.mT).mean(-1)


@register(
    "spearman",
    reads="scores",
    structure=_STRUCTURE,
    context=_CONTEXT,
    targets="real",
    fast_path=RankCorrelation(),
)
def spearman(scores: Tensor, targets: Tensor, *, parts: Tensor | None = None) -> Tensor:
    """Correlation of the ranks of scores and targets."""
    return _by_column(correlation.spearman, scores, targets, parts, "spearman")


@register("kendall", reads="scores", structure=_STRUCTURE, context=_CONTEXT, targets="real", fast_path=OfPairs())
def kendall(scores: Tensor, targets: Tensor, *, parts: Tensor | None = None) -> Tensor:
    """Kendall's tau-b: concordant less discordant pairs, corrected for ties; O(N log^2 N)."""
    return _by_column(correlation.kendall, scores, targets, parts, "kendall")
