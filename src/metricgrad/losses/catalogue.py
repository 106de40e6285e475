"""Every loss by name: what it is, which problems it serves, and what a study may tune of it.

A spec is a name, or a name with parameters: ``"cross_entropy:weighting=balanced"``. A loss of another kind joins by
one more entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from metricgrad.checks import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.losses.entry import (
    CLASSIFICATION,
    KEYPOINTS,
    ONE_SCORE,
    REGRESSION,
    RETRIEVAL,
    SPANS,
    TOKENS,
    Entry,
    Kind,
    Range,
    Role,
)  # fmt: skip
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.spec import parse_spec


def _comparisons_of(metric: Metric) -> dict[str, Any]:
    return {"between": {"labels": "items", "embeddings": "neighbours"}.get(metric.reads, "pairs")}


_SOFTNESS = Range(0.1, 3.0, default=1.0)
_COSINES = {"softness": Range(0.005, 0.3, default=0.02)}
_MARGIN = {"margin": Range(0.05, 0.8, default=0.2)}
_BOUNDARY = {"boundary": Range(0.6, 1.6, default=1.2, log=False)}
_LOSSES = "metricgrad.losses."
_LEARNING = "metricgrad.losses.metric_learning:"
_EMBEDDING = "metricgrad.systems.embedding:"

_ALA = "metricgrad.systems.ala:ALA"

CATALOGUE: dict[str, Entry] = {
    "cross_entropy": Entry(
        _LOSSES + "cross_entropy:CrossEntropy",
        CLASSIFICATION | SPANS,
        "log-likelihood of the targets; weighting=balanced, label_smoothing=0.1",
        standard=True,
    ),
    "focal": Entry(
        _LOSSES + "focal:Focal",
        CLASSIFICATION,
        "cross-entropy with easy items weighing less",
        standard=True,
        space={"gamma": Range(0.5, 5.0, default=2.0, log=False)},
    ),
    "soft_f_beta": Entry(
        _LOSSES + "soft_f_beta:SoftFBeta",
        CLASSIFICATION,
        "F-beta of a batch with probabilities in place of decisions",
        standard=True,
    ),
    "pairwise_logistic": Entry(
        _LOSSES + "pairwise_logistic:PairwiseLogistic",
        ONE_SCORE,
        "logistic loss of every positive against every negative",
        standard=True,
        space={"softness": _SOFTNESS},
    ),
    "smooth_ap": Entry(
        _LOSSES + "smooth_ap:SmoothAP",
        ONE_SCORE,
        "average precision with sigmoids in place of ranks",
        standard=True,
        space={"softness": _SOFTNESS},
    ),
    "lovasz": Entry(
        _LOSSES + "lovasz:Lovasz",
        CLASSIFICATION,
        "Lovász hinge or softmax: the convex extension of the Jaccard loss",
        standard=True,
    ),
    "gaussian_mse": Entry(
        _LOSSES + "gaussian_mse:GaussianMSE",
        KEYPOINTS,
        "squared error of heat maps against a Gaussian around each key point",
        standard=True,
        space={"sigma": Range(0.5, 4.0, default=1.0)},
    ),
    "token_cross_entropy": Entry(
        _LOSSES + "token_cross_entropy:TokenCrossEntropy",
        TOKENS,
        "log-likelihood of every word of a sentence; label_smoothing=0.1",
        standard=True,
    ),
    "mse": Entry(_LOSSES + "regression:SquaredError", REGRESSION, "mean squared error", standard=True),
    "mae": Entry(_LOSSES + "regression:AbsoluteError", REGRESSION, "mean absolute error", standard=True),
    "uniloss": Entry(
        "metricgrad.systems.uniloss:UniLoss",
        CLASSIFICATION | REGRESSION | RETRIEVAL | KEYPOINTS | TOKENS | SPANS,
        "the metric itself, interpolated; uniloss:metric=accuracy is a wrong-metric control",
        space={"softness": _SOFTNESS},
        of_embeddings=_COSINES,
        takes_metric=True,
        passes_on_to=_LOSSES + "interpolated:Interpolated",
        controls=("margin",),
    ),
    "ala": Entry(
        _ALA,
        CLASSIFICATION,
        "cross-entropy with knobs that a policy turns by the metric on validation data",
        takes_metric=True,
        passes_on_to="metricgrad.aligners.policy:Policy",
        from_metric=lambda metric: {"num_outputs": None},
        controls=("ala_random_walk", "ala_static"),
    ),
    "ala_random_walk": Entry(
        _ALA,
        CLASSIFICATION,
        "ala with the same moves at random",
        role="control",
        takes_metric=True,
        passes_on_to="metricgrad.aligners.random_walk:RandomWalk",
        from_metric=lambda metric: {"num_outputs": None, "aligner": "random_walk"},
        shows="that the policy is better than random moves",
    ),
    "ala_static": Entry(
        _ALA,
        CLASSIFICATION,
        "ala with nothing moved: cross-entropy",
        role="control",
        takes_metric=True,
        from_metric=lambda metric: {"num_outputs": None, "aligner": "static"},
        shows="that moving the knobs is better than leaving them",
    ),
    "ala_grid": Entry(
        "metricgrad.systems.ala:tuned_family",
        CLASSIFICATION,
        "ala's form with its knobs tuned before training and left there",
        role="control",
        space={
            "balance": Range(0.02, 1.0, default=0.1, log=False),
            "exponent": Range(0.02, 0.95, default=0.3, log=False),
            "focus": Range(0.02, 2.0, default=0.1, log=False),
            "smoothing": Range(0.01, 0.4, default=0.05, log=False),
            "adjustment": Range(0.02, 1.5, default=0.1, log=False),
        },
        shows="that moving the knobs is better than tuning them once",
    ),
    "triplet": Entry(
        _EMBEDDING + "triplet",
        RETRIEVAL,
        "hinge of every triplet's distances, averaged over those above 0",
        standard=True,
        space=_MARGIN,
    ),
    "distance_margin": Entry(
        _EMBEDDING + "distance_margin",
        RETRIEVAL,
        "hinges of the distances to the own class and to others, at one boundary",
        standard=True,
        space=_BOUNDARY,
    ),
    "distance_mixture": Entry(
        _EMBEDDING + "distance_mixture",
        RETRIEVAL,
        "five functions of distances with weights of their own, triplet and margin loss among them",
        space={name: Range(0.02, 2.0, default=0.5) for name in ("pull", "push", "draw", "repel")},
    ),
    **{
        f"ala_{name}": Entry(
            f"{_EMBEDDING}ala_{name}",
            RETRIEVAL,
            f"{name} as the start of the distance mixture, its weights turned by the metric on validation data",
            space=space,
            takes_metric=True,
            passes_on_to="metricgrad.aligners.policy:Policy",
            controls=(f"ala_{name}:aligner=random_walk",),
            shows="that the policy is better than random moves",
        )
        for name, space in (("triplet", _MARGIN), ("distance_margin", _BOUNDARY))
    },
    "focal_weighting": Entry(
        _EMBEDDING + "focal_weighting",
        RETRIEVAL,
        "two soft hinges of distances, at the sharpness a and b",
        space={"a": Range(0.2, 20.0, default=4.0), "b": Range(0.2, 20.0, default=4.0)},
    ),
    "multi_similarity": Entry(
        _LEARNING + "multi_similarity",
        RETRIEVAL,
        "soft maxima over the pairs of each row; from pytorch-metric-learning",
        standard=True,
        space={"base": Range(0.1, 0.9, default=0.5, log=False)},
    ),
    "proxy_anchor": Entry(
        _LEARNING + "ProxyAnchor",
        RETRIEVAL,
        "a learned vector for each class; say num_classes and embedding_size; from pytorch-metric-learning",
        standard=True,
        space={"rate": Range(1.0, 300.0, default=100.0)},
    ),
    "fast_ap": Entry(
        _LEARNING + "fast_ap",
        RETRIEVAL,
        "average precision of each row from histograms; from pytorch-metric-learning",
        standard=True,
    ),
    "retrieval_smooth_ap": Entry(
        _LEARNING + "smooth_ap",
        RETRIEVAL,
        "average precision of each row with sigmoids for ranks; from pytorch-metric-learning",
        standard=True,
        space={"temperature": Range(0.003, 0.3, default=0.01)},
    ),
    "adalfl": Entry(
        "metricgrad.systems.adalfl:AdaLFL",
        CLASSIFICATION | REGRESSION,
        "the standard loss plus a small network, learned while training by looking one step ahead on validation data",
        space={"meta_lr": Range(1e-4, 1e-2, default=1e-3)},
        passes_on_to="metricgrad.aligners.look_ahead:LookAhead",
        from_metric=lambda metric: {"kind": "auto", "residual": True},
    ),
    "reloss": Entry(
        "metricgrad.training.reloss_of_task:shipped",
        CLASSIFICATION | TOKENS | SPANS | RETRIEVAL,
        "a network that ranks batches as the metric does: fitted on a short run where there is a task, else shipped",
        space={"anchor": Range(0.01, 1.0, default=0.1)},
        takes_metric=True,
        from_training="metricgrad.training.reloss_of_task:fitted_on_training",
    ),
    "margin": Entry(
        _LOSSES + "margin:Margin",
        CLASSIFICATION | RETRIEVAL,
        "uniloss that never calls the metric: the mean sigmoid margin",
        role="control",
        space={"softness": _SOFTNESS},
        of_embeddings=_COSINES,
        from_metric=_comparisons_of,
    ),
}


_ALSO_KNOWN = {
    "ce": "cross_entropy", "bce": "cross_entropy", "crossentropy": "cross_entropy", "crossentropyloss": "cross_entropy",
    "bcewithlogitsloss": "cross_entropy", "log_loss": "cross_entropy", "nll": "cross_entropy", "l1": "mae",
    "l2": "mse", "mseloss": "mse", "l1loss": "mae", "dice": "soft_f_beta", "soft_f1": "soft_f_beta",
    "f1": "soft_f_beta", "iou": "lovasz", "jaccard": "lovasz", "lovasz_softmax": "lovasz", "lovasz_hinge": "lovasz",
    "focal_loss": "focal", "ranknet": "pairwise_logistic", "auc": "pairwise_logistic", "ap": "smooth_ap",
    "triplet_margin": "triplet", "ms": "multi_similarity",
}  # fmt: skip


def list_losses() -> list[str]:
    """The names of all losses, in alphabetical order."""
    return sorted(CATALOGUE)


def find(spec: str) -> tuple[Entry, dict[str, Any]]:
    """The entry a spec names and the parameters it fixes.

    Raises:
        MetricgradError: for an unknown name or parameter, naming what is close.
    """
    name, params = parse_spec(spec)
    if name not in CATALOGUE:
        raise MetricgradError(f"unknown loss {name!r}: {did_you_mean(name, list_losses(), _ALSO_KNOWN)}")
    entry = CATALOGUE[name]
    _check(name, entry, params)
    return entry, params


def _check(name: str, entry: Entry, params: Mapping[str, Any]) -> None:
    for key in params:
        if not entry.accepts(key):
            raise MetricgradError(f"loss {name!r} takes {', '.join(entry.parameters) or 'no parameters'}, not {key!r}")


def make_loss(spec: str, metric: str | Metric, *, seed: int = 0, **params: Any) -> nn.Module:
    """Build a loss by name.

    Args:
        spec: ``"uniloss"``, ``"cross_entropy:label_smoothing=0.1"``, ``"uniloss:metric=accuracy"``.
        metric: what the run is judged by; a loss that trains on a metric trains on this one unless the spec names
            another.
        seed: for losses that draw at random.
        params: values for what the entry's ``space`` names; a parameter fixed by the spec wins.

    Raises:
        MetricgradError: for an unknown name or parameter.

    Example:
        >>> make_loss("margin", "accuracy", softness=0.5)
        Margin(softness=0.5, between='items')
    """
    entry, fixed = find(spec)
    _check(spec, entry, params)
    judged_by = as_metric(metric)
    trained_on = as_metric(fixed.pop("metric")) if "metric" in fixed and entry.takes_metric else judged_by
    values = {**params, **fixed}
    if entry.takes_metric and "seed" not in values and entry.accepts("seed"):
        values["seed"] = seed
    return entry.build(trained_on, values)


def role_of(spec: str, metric: Metric) -> Role:
    """``"control"`` for entries made to be beaten, a loss that trains on another metric, and one nothing aligns."""
    entry, fixed = find(spec)
    if fixed.get("aligner") in ("random_walk", "static"):
        return "control"
    if "metric" in fixed and entry.takes_metric and as_metric(fixed["metric"]).name != metric.name:
        return "control"
    return entry.role


def space_of(spec: str, metric: Metric | None = None) -> dict[str, Range]:
    """What is left to tune once the spec has fixed what it names; for embeddings where the metric reads them."""
    entry, fixed = find(spec)
    of_embeddings = metric is not None and metric.layout.of_embeddings
    space = {**entry.space, **(entry.of_embeddings if of_embeddings else {})}
    return {name: bounds for name, bounds in space.items() if name not in fixed}


def standard_for(kind: Kind) -> str:
    """The loss people use today for a kind of problem."""
    own = {"regression": "mse", "retrieval": "triplet", "keypoints": "gaussian_mse", "tokens": "token_cross_entropy"}
    return own.get(kind, "cross_entropy")
