"""Metrics of the first k classes of each row."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.families.retrieval import check_k
from metricgrad.metrics.fast_paths import OfHits
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide


def _structure(k: int) -> Structure:
    return Structure("top_k", "all", {"k": check_k("top_k_accuracy", k)})


@register("top_k_accuracy", reads="scores", structure=_structure, context=("sample_weight",), fast_path=OfHits())
def top_k_accuracy(scores: Tensor, targets: Tensor, *, k: int = 2, sample_weight: Tensor | None = None) -> Tensor:
    """Share of rows whose target is among the k largest scores.

    Among equal scores the later class comes first, as in scikit-learn, so with ties ``k=1`` is not ``accuracy``,
    which takes the first of the largest.
    """
    if scores.ndim != 3 or targets.ndim != 1:
        raise MetricgradError(
            f"top_k_accuracy needs (N, C) scores and (N,) classes, got {tuple(scores.shape[1:])} and "
            f"{tuple(targets.shape)}; for multilabel targets take recall_at_k or precision_at_k"
        )
    mine = scores.gather(2, targets[None, :, None].expand(len(scores), -1, 1))
    later = torch.arange(scores.shape[2], device=scores.device) > targets[:, None]
    ahead = ((scores > mine) | ((scores == mine) & later)).sum(-1)
    found = wide((ahead < k).float())
    return found.mean(-1) if sample_weight is None else (found * sample_weight).sum(-1) / wide(sample_weight).sum()
