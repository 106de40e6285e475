"""The table of built-in metrics: name -> function, what it reads, its direction and its structure."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits
from metricgrad.metric import Metric, Reads, Structure
from metricgrad.metrics.decoding import TargetKind
from metricgrad.metrics.layouts import Layout

_FAMILIES = (
    "confusion",
    "ranking",
    "retrieval",
    "top_k",
    "correlation",
    "regression",
    "neighbours",
    "pose",
    "segmentation",
    "bleu",
    "spans",
)


@dataclass(frozen=True)
class BuiltIn:
    """One registered metric: ``fn(read, targets, **params) -> (T,)`` with ``read`` of shape (T, ...)."""

    fn: Callable[..., Tensor]
    reads: Reads
    higher_is_better: bool
    structure: Structure | Callable[..., Structure]
    context: frozenset[str]
    by_order: bool
    targets: TargetKind
    layout: Layout

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters and their defaults, context left out."""
        names = inspect.signature(self.fn).parameters.values()
        return {p.name: p.default for p in names if p.kind is p.KEYWORD_ONLY and p.name not in self.context}

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.fn) or "").partition("\n")[0]


_TABLE: dict[str, BuiltIn] = {}


def register(
    name: str,
    *,
    reads: Reads,
    structure: Structure | Callable[..., Structure],
    higher_is_better: bool = True,
    context: tuple[str, ...] = (),
    by_order: bool = False,
    targets: TargetKind = "labels",
    layout: Layout = "rows",
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a batched metric under a name.

    Args:
        name: what people write.
        reads: what the function sees of the scores.
        structure: what is known of it, or a function of its parameters that says so.
        higher_is_better: the direction.
        context: the context it takes by keyword, besides ``mask``.
        by_order: whether only the order of the probabilities matters; it then sees their log-odds.
        targets: what targets can mean: whole ``"labels"``, ``"gains"``, the ``"unit"`` interval, any ``"real"``,
            or numbers of ``"classes"`` that need no column.
        layout: of scores and targets.
    """

    def add(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        _TABLE[name] = BuiltIn(fn, reads, higher_is_better, structure, frozenset(context), by_order, targets, layout)
        return fn

    return add


def table() -> Mapping[str, BuiltIn]:
    """All built-in metrics, by name."""
    for family in _FAMILIES:
        importlib.import_module(f"metricgrad.metrics.{family}")
    return _TABLE


def list_metrics() -> list[str]:
    """Exact names of the built-in metrics, in alphabetical order.

    Example:
        >>> import metricgrad as mg
        >>> "macro_f1" in mg.list_metrics()
        True
    """
    return sorted(table())


def is_built_in(name: str) -> bool:
    """Whether a built-in metric has exactly this name."""
    return name in table()


def built_in(spec: str, fixed: Mapping[str, Any]) -> Metric:
    """Build a metric from ``"name"`` or ``"name:key=value,key=value"``."""
    name, params = parse_spec(spec)
    if name not in table():
        close = difflib.get_close_matches(name, list_metrics(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`metricgrad metrics` lists the built-in ones."
        raise MetricgradError(f"unknown metric {name!r}: {hint} A function of your own is written pkg.mod:fn")
    entry = table()[name]
    hints = typing.get_type_hints(entry.fn)
    for key, value in params.items():
        if not fits(value, hints.get(key, Any)):
            raise MetricgradError(f"metric {spec!r:.60}: {key} is {value!r:.60}; expected {hints[key]}")
    params.update(fixed)
    unknown = params.keys() - entry.parameters.keys()
    if unknown:
        takes = ", ".join(entry.parameters) or "no parameters"
        raise MetricgradError(f"metric {name!r} takes {takes}, not {', '.join(sorted(unknown))}")
    structure = entry.structure(**{**entry.parameters, **params}) if callable(entry.structure) else entry.structure
    label = name + (":" + ",".join(f"{k}={v}" for k, v in params.items()) if params else "")
    return Metric(
        entry.fn,
        name=label,
        higher_is_better=entry.higher_is_better,
        reads=entry.reads,
        batched=True,
        structure=structure,
        context=entry.context,
        fixed=params,
        spec=label,
        by_order=entry.by_order,
        targets=entry.targets,
        layout=entry.layout,
    )


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``"name:key=value,..."``; values are Python literals where they parse as such, strings otherwise."""
    name, _, tail = spec.partition(":")
    params: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise MetricgradError(f"{spec!r}: expected name:key=value,key=value; {part!r} has no '='")
        try:
            params[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            params[key.strip()] = value.strip()
    return name, params
