"""Losses of embeddings by name: forms at the settings people use, each as a :class:`metricgrad.Loss` of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metricgrad.loss import Loss
from metricgrad.losses.distance_mixture import DistanceMixture
from metricgrad.losses.focal_weighting import FocalWeighting
from metricgrad.metrics.metric import Metric
from metricgrad.systems.ala import ALA, Aligning


def triplet(*, margin: float = 0.2, seed: int = 0) -> Loss:
    """The triplet loss over all triplets, averaged over those above 0: a member of the distance mixture."""
    return Loss(DistanceMixture(margin=margin), seed=seed)


def distance_margin(*, boundary: float = 1.2, slack: float = 0.2, seed: int = 0) -> Loss:
    """The margin loss of Wu et al. over all triplets: a member of the distance mixture."""
    return Loss(DistanceMixture.margin_loss(boundary=boundary, slack=slack), seed=seed)


def distance_mixture(
    *,
    triplet: float = 1.0,
    pull: float = 0.5,
    push: float = 0.5,
    draw: float = 0.5,
    repel: float = 0.5,
    margin: float = 0.2,
    seed: int = 0,
) -> Loss:
    """The mixture at fixed weights, which a study may tune."""
    form = DistanceMixture(triplet=triplet, pull=pull, push=push, draw=draw, repel=repel, margin=margin)
    return Loss(form, seed=seed)


def ala_triplet(
    metric: str | Metric | Callable[..., Any],
    *,
    margin: float = 0.2,
    aligner: Aligning = "policy",
    seed: int = 0,
    **options: Any,
) -> ALA:
    """The mixture, begun as the triplet loss; a policy turns its weights by the metric on validation data."""
    return ALA(metric, DistanceMixture(margin=margin), None, aligner=aligner, seed=seed, **options)


def ala_distance_margin(
    metric: str | Metric | Callable[..., Any],
    *,
    boundary: float = 1.2,
    slack: float = 0.2,
    aligner: Aligning = "policy",
    seed: int = 0,
    **options: Any,
) -> ALA:
    """The mixture, begun as the margin loss; a policy turns its weights by the metric on validation data."""
    form = DistanceMixture.margin_loss(boundary=boundary, slack=slack)
    return ALA(metric, form, None, aligner=aligner, seed=seed, **options)


def focal_weighting(*, a: float | None = 4.0, b: float | None = 4.0, seed: int = 0) -> Loss:
    """ALA's focal weighting at fixed sharpness; None for the plain hinge."""
    return Loss(FocalWeighting(a=a, b=b), seed=seed)
