"""Pure maths with no state. The names a user may want are here, imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metricgrad.lazy_names import lazy_names

if TYPE_CHECKING:
    from metricgrad.functional.correlation import kendall, spearman
    from metricgrad.functional.ranks import hard_rank, soft_rank
    from metricgrad.functional.sorting_network import relaxed_permutation, soft_rank_network

__all__ = ["hard_rank", "kendall", "relaxed_permutation", "soft_rank", "soft_rank_network", "spearman"]

_IMPORT_PATH = {
    "hard_rank": "metricgrad.functional.ranks",
    "kendall": "metricgrad.functional.correlation",
    "relaxed_permutation": "metricgrad.functional.sorting_network",
    "soft_rank": "metricgrad.functional.ranks",
    "soft_rank_network": "metricgrad.functional.sorting_network",
    "spearman": "metricgrad.functional.correlation",
}

__getattr__, __dir__ = lazy_names(__name__, _IMPORT_PATH)
