"""Every loss by name: what it is, which problems it serves, and what a study may tune of it.

A spec is a name, or a name with parameters: ``"cross_entropy:weighting=balanced"``. A loss of another kind joins by
one more entry.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.metric import Metric, as_metric
from metricgrad.metrics.registry import parse_spec

Kind = Literal["binary", "multiclass", "multilabel", "regression", "keypoints"]
Role = Literal["candidate", "control"]

CLASSIFICATION: frozenset[Kind] = frozenset(("binary", "multiclass", "multilabel"))
ONE_SCORE: frozenset[Kind] = frozenset(("binary", "multilabel"))
REGRESSION: frozenset[Kind] = frozenset(("regression",))
KEYPOINTS: frozenset[Kind] = frozenset(("keypoints",))


@dataclass(frozen=True)
class Range:
    """One number a study tunes: its bounds, and the value that is tried first."""

    low: float
    high: float
    default: float
    log: bool = True


@dataclass(frozen=True)
class Entry:
    """One loss.

    Attributes:
        home: ``"module:Class"``, imported when the loss is built.
        kinds: the problems it serves.
        summary: one line on what it is.
        standard: whether people use it today, so that a new loss must beat it.
        role: a control is in the table to be beaten, never to be chosen.
        space: its own hyper-parameters, beside the learning rate and weight decay every loss has.
        takes_metric: whether the class is built from a metric.
        passes_on_to: ``"module:Class"`` that gets the keywords the class itself does not name.
        from_metric: further arguments that follow from the metric.
    """

    home: str
    kinds: frozenset[Kind]
    summary: str
    standard: bool = False
    role: Role = "candidate"
    space: Mapping[str, Range] = field(default_factory=dict)
    takes_metric: bool = False
    passes_on_to: str = ""
    from_metric: Callable[[Metric], dict[str, Any]] = lambda metric: {}

    def build(self, metric: Metric, params: dict[str, Any]) -> nn.Module:
        """The module; parameters the class does not know raise."""
        cls = _load(self.home)
        arguments = {**self.from_metric(metric), **params}
        return cls(metric, **arguments) if self.takes_metric else cls(**arguments)

    def accepts(self, name: str) -> bool:
        """Whether the class takes a keyword of this name."""
        return name in self.parameters

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters and their defaults."""
        homes = [home for home in (self.home, self.passes_on_to) if home]
        known = [p for home in homes for p in inspect.signature(_load(home)).parameters.values()]
        found = {p.name: p.default for p in known if p.default is not p.empty}
        return {"metric": None, **found} if self.takes_metric else found


def _load(home: str) -> Callable[..., nn.Module]:
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


def _comparisons_of(metric: Metric) -> dict[str, Any]:
    return {"between": "items" if metric.reads == "labels" else "pairs"}


_SOFTNESS = Range(0.1, 3.0, default=1.0)
_LOSSES = "metricgrad.losses."

CATALOGUE: dict[str, Entry] = {
    "cross_entropy": Entry(
        _LOSSES + "cross_entropy:CrossEntropy",
        CLASSIFICATION,
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
    "mse": Entry("torch.nn:MSELoss", REGRESSION, "mean squared error", standard=True),
    "mae": Entry("torch.nn:L1Loss", REGRESSION, "mean absolute error", standard=True),
    "uniloss": Entry(
        "metricgrad.systems.uniloss:UniLoss",
        CLASSIFICATION | REGRESSION | KEYPOINTS,
        "the metric itself, interpolated; uniloss:metric=accuracy is a wrong-metric control",
        space={"softness": _SOFTNESS},
        takes_metric=True,
        passes_on_to=_LOSSES + "interpolated:Interpolated",
    ),
    "margin": Entry(
        _LOSSES + "margin:Margin",
        CLASSIFICATION,
        "uniloss that never calls the metric: the mean sigmoid margin",
        role="control",
        space={"softness": _SOFTNESS},
        from_metric=_comparisons_of,
    ),
}


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
        close = difflib.get_close_matches(name, list_losses(), n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(list_losses())}"
        raise MetricgradError(f"unknown loss {name!r}: {hint}")
    entry = CATALOGUE[name]
    for key in params:
        if not entry.accepts(key):
            raise MetricgradError(f"loss {name!r} takes {', '.join(entry.parameters) or 'no parameters'}, not {key!r}")
    return entry, params


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
    judged_by = as_metric(metric)
    trained_on = as_metric(fixed.pop("metric")) if "metric" in fixed and entry.takes_metric else judged_by
    values = {**params, **fixed}
    if entry.takes_metric and "seed" not in values and entry.accepts("seed"):
        values["seed"] = seed
    return entry.build(trained_on, values)


def role_of(spec: str, metric: Metric) -> Role:
    """``"control"`` for entries made to be beaten, and for a loss that trains on another metric."""
    entry, fixed = find(spec)
    if "metric" in fixed and entry.takes_metric and as_metric(fixed["metric"]).name != metric.name:
        return "control"
    return entry.role


def space_of(spec: str) -> dict[str, Range]:
    """What is left to tune once the spec has fixed what it names."""
    entry, fixed = find(spec)
    return {name: bounds for name, bounds in entry.space.items() if name not in fixed}


def standard_for(kind: Kind) -> str:
    """The loss people use today for a kind of problem."""
    return {"regression": "mse", "keypoints": "gaussian_mse"}.get(kind, "cross_entropy")
