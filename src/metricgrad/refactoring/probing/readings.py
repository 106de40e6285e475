"""The readings a metric is tried for, from the least it can read of the scores to the most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.metrics.types import Reads, Structure
from metricgrad.refactoring.probing.batch import ProbeBatch
from metricgrad.refactoring.probing.redraws import (
    keep_argmax,
    keep_column_pairs,
    keep_order,
    keep_pairs,
    keep_signs,
    keep_top_k,
    mix_columns,
)
from metricgrad.refactoring.ranking.lists import Within

Redraw = Callable[[Tensor, torch.Generator], Tensor]

_WHERE: dict[Within, str] = {
    "all": "of all entries",
    "sample": "within each sample",
    "row": "within each row",
    "column": "within each column",
    "group": "within each group",
}


@dataclass(frozen=True)
class Reading:
    """One thing a metric may be determined by.

    Attributes:
        name: in words.
        redraw: keeps the reading, and draws everything else anew.
        structure: what it amounts to; None where it only explains a refusal.
        opposite: a change of the reading that keeps what the next one looks at, and that the metric must answer to.
        hint: what to do where it holds and has no structure.
    """

    name: str
    redraw: Redraw
    structure: Structure | None
    opposite: Redraw | None = None
    hint: str = ""


def labels(batch: ProbeBatch) -> Reading | None:
    """The side of 0 of each entry, or the argmax of each row; None for graded targets, which have no sides."""
    if batch.kind == "graded":
        return None
    structure = Structure("labels", "none")
    if batch.kind == "classes":
        return Reading("the argmax of each row", keep_argmax, structure, _lift_columns)
    together = batch.lists("all")
    return Reading("the side of 0 of each entry", keep_signs, structure, lambda s, g: keep_order(s, together, g))


def top_k(batch: ProbeBatch, k: int) -> Reading:
    """Whether each row's target is among its k largest scores."""
    targets = batch.targets.cpu().long()
    name = f"whether the target is among the {k} largest of its row"
    return Reading(name, lambda s, g: keep_top_k(s, targets, k, g), Structure("top_k", "all", {"k": k}))


def orders(batch: ProbeBatch, reads: Reads) -> Iterator[Reading]:
    """Positives over negatives, then rankings; in each, the narrower lists first."""
    softmax = batch.kind == "classes" and reads == "probabilities"
    withins: list[Within] = [
        w for w in batch.withins if not (softmax and w == "all")
    ]  # one list of softmaxes: no map keeps it
    if batch.kind != "graded":
        positive = batch.relevance.cpu() > 0
        for within in withins:
            name = f"positives over negatives {_WHERE[within]}"
            structure = Structure("positives_over_negatives", "none", {"within": within})
            if softmax and within == "column":
                yield Reading(f"{name}, by softmax", _softmax_pairs(batch), structure)
            else:
                yield Reading(name, _pairs(batch.lists(within), positive), structure)
    for within in withins:
        name = f"the order {_WHERE[within]}"
        structure = Structure("ranking", "none", {"within": within})
        if softmax and within == "column":
            yield Reading(f"{name}, by softmax", mix_columns, structure)
        else:
            yield Reading(name, _order(batch.lists(within)), structure)
    if batch.kind == "classes" and not softmax:
        hint = "it turns the scores into probabilities itself: say reads='probabilities' and hand it those"
        yield Reading("the order within each column, by softmax", mix_columns, None, hint=hint)


def _pairs(lists: Tensor, positive: Tensor) -> Redraw:
    return lambda scores, generator: keep_pairs(scores, lists, positive, generator)


def _order(lists: Tensor) -> Redraw:
    return lambda scores, generator: keep_order(scores, lists, generator)


def _softmax_pairs(batch: ProbeBatch) -> Redraw:
    targets = batch.targets.cpu().long()
    return lambda scores, generator: keep_column_pairs(scores, targets, generator)


def _lift_columns(scores: Tensor, generator: torch.Generator) -> Tensor:
    return scores + 3 * torch.rand(scores.shape[1], generator=generator).to(scores)
