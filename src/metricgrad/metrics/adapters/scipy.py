"""SciPy's rank correlations: they return a statistic and its p-value, of which the first is the metric."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.layouts.layout import ROWS
from metricgrad.metrics.of_pairs import OfPairs
from metricgrad.metrics.of_ranks import RankCorrelation
from metricgrad.metrics.types import Structure

_TWINS: dict[str, FastPath] = {"spearmanr": RankCorrelation(), "kendalltau": OfPairs()}


def describe_scipy(metric: Callable[..., Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Options of :func:`metricgrad.as_metric` for a function of ``scipy.stats``; empty for one that is not known."""
    name = getattr(metric, "__name__", "")
    if name not in _TWINS:
        return {}
    adapter = ScipyAdapter(metric)
    return {
        "fn": adapter,
        "raw": adapter,
        "reads": "scores",
        "inputs": "numpy",
        "higher_is_better": True,
        "structure": Structure("ranking", "all", {"within": "all"}),
        "layout": ROWS,
        "context": frozenset(),
        "twin": None if fixed else _TWINS[name],
    }


@dataclass(frozen=True)
class ScipyAdapter:
    """The statistic alone; an object, so that it can be pickled."""

    metric: Callable[..., Any]

    def __call__(self, read: Any, targets: Any, **fixed: Any) -> Any:
        """Call it; of constant scores it is NaN, of which SciPy would warn at every step."""
        from scipy.stats import ConstantInputWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            return self.metric(read, targets, **fixed).statistic
