"""The words in which a metric is described: what it reads, in which order, of which targets, and its structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: What a metric sees of the raw scores.
Reads = Literal["scores", "probabilities", "labels", "embeddings"]
#: What targets can mean.
TargetKind = Literal["labels", "gains", "unit", "real", "classes"]
#: What a callable is handed.
Inputs = Literal["torch", "numpy"]
#: In which order it takes scores and targets.
Order = Literal["scores_first", "targets_first"]
#: What of (N, C) targets a metric takes each by itself before it averages.
Apart = Literal["row", "column"]


@dataclass(frozen=True)
class Structure:
    """What is known about a metric without probing it; ``metricgrad.refactoring`` turns it into a refactoring.

    Args:
        kind: ``"labels"`` (only predicted labels matter: a threshold at 0 where scores and targets share their shape,
            an argmax otherwise), ``"top_k"``, ``"peak"`` (of heat maps), ``"tokens"`` (words of sentences),
            ``"span_ends"`` (of answer spans), ``"ranking"``, ``"positives_over_negatives"``, ``"differentiable"``,
            ``"neighbours"`` (of embeddings, by cosine) or ``"clusters"`` (of embeddings; nothing trains on it).
        exchangeable: which entries of equal target and prediction stand for each other, so that a change of the one
            or of the other is worth the same: ``"all"``, ``"sample"`` (those of one image or sentence: one index of the
            targets' first axis), ``"column"`` (those in one column of ``(N, C)`` targets, one index of the last axis),
            ``"row"`` (those that differ in the last axis alone), ``"group"`` (those of one group of the batch) or
            ``"none"``. With one target a row there are no
            columns to keep apart: ``"column"`` and ``"row"`` then mean ``"all"``.
        params: parameters of the refactoring: ``{"k": 5}``; ``{"within": "all"}``, or ``"sample"``, ``"row"``,
            ``"column"`` or ``"group"``; or
            ``{"within": "auto", "two_d": "row" | "column"}``, which is ``"group"`` where groups are given, else
            ``"all"`` for ``(N,)`` scores and ``two_d`` for ``(N, C)`` scores.
    """

    kind: str
    exchangeable: Literal["all", "column", "row", "sample", "group", "none"] = "all"
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keeps_apart(self) -> Apart | None:
        """Whether rows or columns of (N, C) targets count each for itself."""
        within = self.params.get("two_d", self.params.get("within"))
        both: tuple[Apart, Apart] = ("row", "column")
        return next((apart for apart in both if apart in (self.exchangeable, within)), None)
