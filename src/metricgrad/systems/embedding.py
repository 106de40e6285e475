"""Losses of embeddings by name: forms at the settings people use, each as a :class:`metricgrad.Loss` of its own."""

from __future__ import annotations

from metricgrad.loss import Loss
from metricgrad.losses.distance_mixture import DistanceMixture
from metricgrad.losses.focal_weighting import FocalWeighting


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


def focal_weighting(*, a: float = 4.0, b: float = 4.0, seed: int = 0) -> Loss:
    """ALA's focal weighting at fixed sharpness."""
    return Loss(FocalWeighting(a=a, b=b), seed=seed)
