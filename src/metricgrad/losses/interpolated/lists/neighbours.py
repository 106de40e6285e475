"""Metrics of embeddings in closed form: each row's list of the others, by similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.functional.cosines import cosines
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists


def has_pairs(targets: Tensor) -> bool:
    """Whether any row has another of its class."""
    return len(targets.unique()) < len(targets)


def neighbour_lists(targets: Tensor) -> RankedLists:
    """Each row's list of the others, of which its own class is relevant."""
    same = targets[:, None] == targets
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return RankedLists(cosines, same, itself, hard=_without_rounding)


def _without_rounding(similar: Tensor, softness: Tensor | float) -> Tensor:
    """Those that differ by rounding alone made equal, as for the metrics."""
    grid = 2.0**40 if similar.dtype == torch.float64 else 2.0**20
    return (similar * grid).round() / (grid * softness)
