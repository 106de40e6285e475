"""The right half of the grid: what moves a loss form, every aligner by its class name, and ``Aligner``, their base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metricgrad.lazy_names import lazy_names

if TYPE_CHECKING:
    from metricgrad.aligners.base import Aligner as Aligner
    from metricgrad.aligners.fitting.rank_correlation import RankCorrelation as RankCorrelation
    from metricgrad.aligners.fitting.value_regression import ValueRegression as ValueRegression
    from metricgrad.aligners.knobs.policy import Policy as Policy
    from metricgrad.aligners.knobs.random_walk import RandomWalk as RandomWalk
    from metricgrad.aligners.lookahead.look_ahead import LookAhead as LookAhead
    from metricgrad.aligners.static import Static as Static

_IMPORT_PATH = {
    "Aligner": "metricgrad.aligners.base",
    "LookAhead": "metricgrad.aligners.lookahead.look_ahead",
    "Policy": "metricgrad.aligners.knobs.policy",
    "RandomWalk": "metricgrad.aligners.knobs.random_walk",
    "RankCorrelation": "metricgrad.aligners.fitting.rank_correlation",
    "Static": "metricgrad.aligners.static",
    "ValueRegression": "metricgrad.aligners.fitting.value_regression",
}

__getattr__, __dir__ = lazy_names(__name__, _IMPORT_PATH)
