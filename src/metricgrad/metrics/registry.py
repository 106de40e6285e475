"""The table that built-in metrics register in: name -> function, what it reads, its direction and its structure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metricgrad.metrics.families.group_means import in_groups
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.layouts.layout import ROWS, Layout
from metricgrad.metrics.of_labels import OfLabels
from metricgrad.metrics.types import Reads, Structure, TargetKind


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
    fast_path: FastPath | Callable[..., FastPath] | None

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters and their defaults, context left out."""
        names = inspect.signature(self.fn).parameters.values()
        return {p.name: p.default for p in names if p.kind is p.KEYWORD_ONLY and p.name not in self.context}

    def path(self, params: Mapping[str, Any]) -> FastPath | None:
        """What it is a function of, with these parameters and the defaults of all others."""
        return self.fast_path(**{**self.parameters, **params}) if callable(self.fast_path) else self.fast_path

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.fn) or "").partition("\n")[0]


TABLE: dict[str, BuiltIn] = {}


def register(
    name: str,
    *,
    reads: Reads,
    structure: Structure | Callable[..., Structure],
    higher_is_better: bool = True,
    context: tuple[str, ...] = (),
    by_order: bool = False,
    targets: TargetKind = "labels",
    layout: Layout = ROWS,
    fast_path: FastPath | Callable[..., FastPath] | None = None,
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
        fast_path: what else it is a function of, or a function of its parameters that says so; a metric of labels that
            takes weights is one of weighted labels, and takes groups.
    """

    def add(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        counts = reads == "labels" and "sample_weight" in context
        taken = frozenset((*context, "groups")) if counts else frozenset(context)
        fn = in_groups(fn, lambda options: TABLE[name].path(options)) if counts else fn
        TABLE[name] = BuiltIn(
            fn, reads, higher_is_better, structure, taken, by_order, targets, layout,
            fast_path or (OfLabels() if counts else None),
        )  # fmt: skip
        return fn

    return add
