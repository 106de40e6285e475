"""Pure maths with no state; imports nothing of ours. The names a user may want are here, imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in _IMPORT_PATH:
        return getattr(importlib.import_module(_IMPORT_PATH[name]), name)
    raise AttributeError(f"module 'metricgrad.functional' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
