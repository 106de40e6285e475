"""Losses by name: a spec is a name, or a name with parameters: ``"cross_entropy:weighting=balanced"``.

Importing this file imports every file in which a loss registers itself, so that the table is whole wherever a name is
looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines import (
    cross_entropy,
    focal,
    gaussian_mse,
    heatmap_cross_entropy,
    lovasz,
    margin,
    metric_learning,
    pairwise_logistic,
    regression,
    smooth_ap,
    soft_f_beta,
    token_cross_entropy,
)
from metricgrad.losses.registry import REGISTRY, Entry, ProblemKind
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.spec import parse_spec
from metricgrad.systems import adalfl, ala, embedding, reloss, uniloss, uniloss_controls

REGISTERING = (
    cross_entropy, focal, soft_f_beta, pairwise_logistic, smooth_ap, lovasz, gaussian_mse, heatmap_cross_entropy,
    token_cross_entropy, regression, metric_learning, margin, uniloss, uniloss_controls, ala, embedding, adalfl, reloss,
)  # fmt: skip
"""The files in which losses register themselves."""

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
    return sorted(REGISTRY)


def find(spec: str, others: Iterable[str] = (), *, kind: ProblemKind | None = None) -> tuple[Entry, dict[str, Any]]:
    """The entry a spec names and the parameters it fixes.

    Args:
        spec: ``"name"`` or ``"name:key=value,..."``.
        others: what else could have been named there, for messages.
        kind: of the problem, for messages: losses that do not serve it are no suggestion.

    Raises:
        MetricgradError: for an unknown name or parameter, naming what is close.
    """
    name, _, said = spec.partition(":")
    if "." in name or (name not in REGISTRY and said and "=" not in said):
        raise MetricgradError(
            f"unknown loss {spec!r}: a loss of your own has no path; register it under a name in the file that makes "
            "the task, or pass its class to mg.compare(losses=[...]) (docs/extending.md has both)"
        )
    name, params = parse_spec(spec)
    if name not in REGISTRY:
        known = [one for one in list_losses() if kind is None or kind in REGISTRY[one].kinds]
        raise MetricgradError(f"unknown loss {name!r}: {did_you_mean(name, [*known, *others], _ALSO_KNOWN)}")
    entry = REGISTRY[name]
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
