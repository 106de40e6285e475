"""The table of losses that have a name: what makes each, which problems it serves, and what a study may tune of it.

A loss registers itself at the end of its own file, so that this one names none of them;
:mod:`metricgrad.systems.by_name` looks names up once all are there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from metricgrad.metrics.metric import Metric

ProblemKind = Literal["binary", "multiclass", "multilabel", "regression", "retrieval", "keypoints", "tokens", "spans"]
Role = Literal["candidate", "control"]
Problem = Literal["classification", "binary", "multilabel", "regression", "auto"]
PROBLEMS: tuple[Problem, ...] = ("classification", "binary", "multilabel", "regression", "auto")
"""What a loss of rows can be told to read them as; files keep the place in this tuple."""

CLASSIFICATION: frozenset[ProblemKind] = frozenset(("binary", "multiclass", "multilabel"))
ONE_SCORE: frozenset[ProblemKind] = frozenset(("binary", "multilabel"))
REGRESSION: frozenset[ProblemKind] = frozenset(("regression",))
RETRIEVAL: frozenset[ProblemKind] = frozenset(("retrieval",))
KEYPOINTS: frozenset[ProblemKind] = frozenset(("keypoints",))
TOKENS: frozenset[ProblemKind] = frozenset(("tokens",))
ANSWER_SPANS: frozenset[ProblemKind] = frozenset(("spans",))


@dataclass(frozen=True)
class Range:
    """One number a study tunes: its bounds, and the value that is tried first."""

    low: float
    high: float
    default: float
    log: bool = True


SOFTNESS = Range(0.1, 3.0, default=1.0)
"""Of sigmoids of scores, which a study searches alike wherever there are some."""

SOFTNESS_OF_COSINES = Range(0.005, 0.3, default=0.02)


@dataclass(frozen=True)
class Entry:
    """One loss.

    Attributes:
        factory: makes it: its class, or a function.
        kinds: the problems it serves.
        summary: one line on what it is.
        standard: whether people use it today, so that a new loss must beat it.
        role: a control is in the table to be beaten, never to be chosen.
        space: its own hyper-parameters, beside the learning rate and weight decay every loss has.
        of_embeddings: the same where the metric reads embeddings, whose cosines have a scale of their own.
        takes_metric: whether the factory's first argument is a metric.
        passes_on_to: what gets the keywords that the factory itself does not name.
        from_metric: further arguments that follow from the metric.
        controls: the entries a comparison runs beside it.
        shows: of a control: what a loss that beats it shows; a comparison then says in words whether it did.
    """

    factory: Callable[..., nn.Module]
    kinds: frozenset[ProblemKind]
    summary: str
    standard: bool = False
    role: Role = "candidate"
    space: Mapping[str, Range] = field(default_factory=dict)
    of_embeddings: Mapping[str, Range] = field(default_factory=dict)
    takes_metric: bool = False
    passes_on_to: Callable[..., Any] | None = None
    from_metric: Callable[[Metric], dict[str, Any]] = lambda metric: {}
    controls: tuple[str, ...] = ()
    shows: str = ""

    def build(self, metric: Metric, params: dict[str, Any]) -> nn.Module:
        """The module; parameters the factory does not know raise."""
        arguments = {**self.from_metric(metric), **params}
        return self.factory(metric, **arguments) if self.takes_metric else self.factory(**arguments)

    def accepts(self, name: str) -> bool:
        """Whether the factory takes a keyword of this name, as it is or for one of the batches it is searched over."""
        return name in self.parameters or name in self.of_embeddings

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters and their defaults."""
        takers = [self.factory] if self.passes_on_to is None else [self.factory, self.passes_on_to]
        known = [p for taker in takers for p in inspect.signature(taker).parameters.values()]
        found = {p.name: p.default for p in known if p.default is not p.empty}
        return {"metric": None, **found} if self.takes_metric else found


REGISTRY: dict[str, Entry] = {}
"""Name -> what is known of the loss, as far as the files that register were imported."""


def register(name: str, entry: Entry) -> None:
    """Give a loss a name that people write; a name that is taken is given anew."""
    REGISTRY[name] = entry


def standard_for(kind: ProblemKind) -> str:
    """The loss people use today for a kind of problem."""
    own = {"regression": "mse", "retrieval": "triplet", "keypoints": "gaussian_mse", "tokens": "token_cross_entropy"}
    return own.get(kind, "cross_entropy")
