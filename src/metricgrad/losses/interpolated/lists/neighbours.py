"""Metrics of embeddings in closed form: each row's list of the others, by similarity."""

from __future__ import annotations

from torch import Tensor

from metricgrad.functional.cosines import cosines, without_rounding
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists


def has_pairs(targets: Tensor) -> bool:
    """Whether any row has another of its class."""
    return len(targets.unique()) < len(targets)


class NeighbourLists(RankedLists):
    """Each row's list of the others, of which its own class is relevant.

    Args:
        targets: ``(N,)`` class numbers.
    """

    def __init__(self, targets: Tensor) -> None:
        super().__init__(cosines, targets[:, None] == targets)

    def sides(self) -> Tensor:
        """As of other lists; a row itself is on neither side."""
        found = super().sides()
        found[0].fill_diagonal_(False)
        return found

    def taken(self, values: Tensor) -> Tensor:
        """Those that differ by rounding alone made equal, as for the metrics."""
        return without_rounding(values)[0]
