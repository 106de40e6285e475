"""What is said of a loss that has a name: where it is, which problems it serves, and what a study may tune of it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from metricgrad.metrics.metric import Metric

Kind = Literal["binary", "multiclass", "multilabel", "regression", "retrieval", "keypoints", "tokens", "spans"]
Role = Literal["candidate", "control"]

CLASSIFICATION: frozenset[Kind] = frozenset(("binary", "multiclass", "multilabel"))
ONE_SCORE: frozenset[Kind] = frozenset(("binary", "multilabel"))
REGRESSION: frozenset[Kind] = frozenset(("regression",))
RETRIEVAL: frozenset[Kind] = frozenset(("retrieval",))
KEYPOINTS: frozenset[Kind] = frozenset(("keypoints",))
TOKENS: frozenset[Kind] = frozenset(("tokens",))
SPANS: frozenset[Kind] = frozenset(("spans",))


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
        of_embeddings: the same where the metric reads embeddings, whose cosines have a scale of their own.
        takes_metric: whether the class is built from a metric.
        passes_on_to: ``"module:Class"`` that gets the keywords the class itself does not name.
        from_metric: further arguments that follow from the metric.
        controls: the entries a comparison runs beside it.
        shows: of a control: what a loss that beats it shows; a comparison then says in words whether it did.
        from_training: ``"module:function"`` that makes the loss from the metric and a task's training part, where a
            comparison has one.
    """

    home: str
    kinds: frozenset[Kind]
    summary: str
    standard: bool = False
    role: Role = "candidate"
    space: Mapping[str, Range] = field(default_factory=dict)
    of_embeddings: Mapping[str, Range] = field(default_factory=dict)
    takes_metric: bool = False
    passes_on_to: str = ""
    from_metric: Callable[[Metric], dict[str, Any]] = lambda metric: {}
    controls: tuple[str, ...] = ()
    shows: str = ""
    from_training: str = ""

    def build(self, metric: Metric, params: dict[str, Any]) -> nn.Module:
        """The module; parameters the class does not know raise."""
        cls = load_home(self.home)
        arguments = {**self.from_metric(metric), **params}
        return cls(metric, **arguments) if self.takes_metric else cls(**arguments)

    def accepts(self, name: str) -> bool:
        """Whether the class takes a keyword of this name."""
        return name in self.parameters

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters and their defaults."""
        homes = [home for home in (self.home, self.passes_on_to) if home]
        known = [p for home in homes for p in inspect.signature(load_home(home)).parameters.values()]
        found = {p.name: p.default for p in known if p.default is not p.empty}
        return {"metric": None, **found} if self.takes_metric else found


def load_home(home: str) -> Callable[..., nn.Module]:
    """What ``"module:name"`` names."""
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)
