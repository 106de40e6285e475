"""Every decision by its name, and how a file makes one again."""

from __future__ import annotations

import math
from typing import Any, Literal, TypedDict, TypeVar

from metricgrad.decisions.base import Decision, Findings
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.masks import Masks
from metricgrad.decisions.offsets import Offsets
from metricgrad.decisions.operating_point import AtPrecision, AtRecall
from metricgrad.decisions.ordinal_cuts import OrdinalCuts
from metricgrad.decisions.plug_in import PlugIn
from metricgrad.decisions.threshold import LabelThresholds, Threshold
from metricgrad.decisions.top_k import TopK
from metricgrad.errors import MetricgradError
from metricgrad.json_types import checked_arguments, fits
from metricgrad.metrics.layouts.class_targets import ClassDim

#: The simplest first: among equals the earlier one stays.
DECISIONS: dict[str, type[Decision]] = {
    cls.kind: cls
    for cls in (
        Identity, Threshold, Masks, AtPrecision, AtRecall, TopK, LabelThresholds, Offsets, OrdinalCuts, PlugIn
    )
}  # fmt: skip

#: Those that the shapes of scores and targets are known of.
BUILT_IN = frozenset(DECISIONS)

Kind = TypeVar("Kind", bound=type[Decision])


def register(cls: Kind) -> Kind:
    """Give a decision of one's own a name, for ``decision=``, ``method=`` and saved models; a decorator of its class.

    Its ``reading`` is ``"argmax"`` where scores are of classes. It is fitted where it is asked for, and is none of the
    candidates of ``"auto"``. Whoever loads such a model imports the class first: a file names no code.

    Raises:
        MetricgradError: for anything else, and for a ``kind`` that another class has.
    """
    if not (isinstance(cls, type) and issubclass(cls, Decision) and isinstance(getattr(cls, "kind", None), str)):
        raise MetricgradError(f"{cls!r:.60} is no subclass of Decision with a kind")
    there = DECISIONS.get(cls.kind)
    # a file that is run again, as in a notebook, defines its class anew
    if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
        raise MetricgradError(f"kind {cls.kind!r} of {cls.__name__} is that of {there.__name__}; take another")
    DECISIONS[cls.kind] = cls
    return cls


class _Stored(TypedDict):
    kind: str
    config: dict[str, Any]
    words: str
    decided: float | None
    undecided: float | None


class Stored(_Stored, total=False):
    """A decision as a file has it; ``class_dim`` where the classes were not last."""

    class_dim: Literal[1]


def build(kind: str, config: dict[str, Any], class_dim: ClassDim | None = None) -> Decision:
    """A decision from what a file says of it: ``build(**decision.described())`` is the same again.

    Args:
        kind: of :data:`DECISIONS`.
        config: :meth:`~metricgrad.decisions.base.Decision.config`.
        class_dim: the axis of the classes, where it is not that of the configuration or the last.

    Raises:
        MetricgradError: for an unknown kind, or a configuration that does not fit it.
    """
    if kind not in DECISIONS:
        raise MetricgradError(f"unknown decision {kind!r}; known are {', '.join(DECISIONS)}")
    arguments = checked_arguments(DECISIONS[kind], config, f"decision {kind!r}")
    try:
        decision = DECISIONS[kind](**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetricgradError(f"decision {kind!r} cannot be made from {config!r:.100}: {error}") from error
    if class_dim is not None:
        decision.class_dim = class_dim
    return decision


def stored(decision: Decision) -> Stored:
    """What :func:`restored` makes it again from, JSON-able."""
    found = decision.findings
    described = decision.described()
    decided, undecided = (v if v is not None and math.isfinite(v) else None for v in (found.decided, found.undecided))
    return Stored(**described, words=found.words, decided=decided, undecided=undecided)


def restored(found: Any) -> Decision:
    """The decision of :func:`stored`.

    Raises:
        MetricgradError: for anything else.
    """
    if not fits(found, Stored):
        raise MetricgradError(f"{found!r:.60} describes no decision; expected its kind, its config and what was found")
    decision = build(found["kind"], found["config"], found.get("class_dim"))
    decision.findings = Findings(found["words"], found["decided"], found["undecided"])
    return decision
