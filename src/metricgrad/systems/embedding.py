"""Losses of embeddings by name: forms at the settings people use, each as a :class:`metricgrad.Loss` of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metricgrad.aligners.knobs.policy import Policy
from metricgrad.loss import Loss
from metricgrad.losses.families.distance_mixture import DistanceMixture
from metricgrad.losses.families.focal_weighting import FocalWeighting
from metricgrad.losses.registry import RETRIEVAL, Entry, Range, register
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


_MARGIN = {"margin": Range(0.05, 0.8, default=0.2)}
_BOUNDARY = {"boundary": Range(0.6, 1.6, default=1.2, log=False)}

register(
    "triplet",
    Entry(
        triplet,
        RETRIEVAL,
        "hinge of every triplet's distances, averaged over those above 0",
        standard=True,
        space=_MARGIN,
    ),
)
register(
    "distance_margin",
    Entry(
        distance_margin,
        RETRIEVAL,
        "hinges of the distances to the own class and to others, at one boundary",
        standard=True,
        space=_BOUNDARY,
    ),
)
register(
    "distance_mixture",
    Entry(
        distance_mixture,
        RETRIEVAL,
        "five functions of distances with weights of their own, triplet and margin loss among them",
        space={name: Range(0.02, 2.0, default=0.5) for name in ("pull", "push", "draw", "repel")},
    ),
)
for _name, _factory, _space in (
    ("triplet", ala_triplet, _MARGIN),
    ("distance_margin", ala_distance_margin, _BOUNDARY),
):
    register(
        f"ala_{_name}",
        Entry(
            _factory,
            RETRIEVAL,
            f"{_name} as the start of the distance mixture, its weights turned by the metric on validation data",
            space=_space,
            takes_metric=True,
            passes_on_to=Policy,
            controls=(f"ala_{_name}:aligner=random_walk",),
            shows="that the policy is better than random moves",
        ),
    )
register(
    "focal_weighting",
    Entry(
        focal_weighting,
        RETRIEVAL,
        "two soft hinges of distances, at the sharpness a and b",
        space={"a": Range(0.2, 20.0, default=4.0), "b": Range(0.2, 20.0, default=4.0)},
    ),
)
