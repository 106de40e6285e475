"""Rank correlation of scores and targets: over all rows, or for each column of ``(N, C)`` targets and averaged.

NaN where the scores or the targets are constant, as in SciPy; a constant column makes the average NaN as well.
"""

from __future__ import annotations

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional import correlation
from metricgrad.metric import Structure
from metricgrad.metrics.registry import register

_STRUCTURE = Structure("ranking", "all", {"within": "auto", "two_d": "column"})


def _by_column(fn, scores: Tensor, targets: Tensor, metric: str) -> Tensor:
    if scores.shape[1:] != targets.shape:
        raise MetricgradError(
            f"{metric} compares scores and targets of one shape, got {tuple(scores.shape[1:])} and "
            f"{tuple(targets.shape)}"
        )
    if scores.ndim == 2:
        return fn(scores, targets)
    return fn(scores.mT, targets.mT).mean(-1)


@register("spearman", reads="scores", structure=_STRUCTURE, targets="real")
def spearman(scores: Tensor, targets: Tensor) -> Tensor:
    """Correlation of the ranks of scores and targets."""
    return _by_column(correlation.spearman, scores, targets, "spearman")


@register("kendall", reads="scores", structure=_STRUCTURE, targets="real")
def kendall(scores: Tensor, targets: Tensor) -> Tensor:
    """Kendall's tau-b: concordant less discordant pairs, corrected for ties; O(N log^2 N)."""
    return _by_column(correlation.kendall, scores, targets, "kendall")
