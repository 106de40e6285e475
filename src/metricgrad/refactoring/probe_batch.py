"""What a metric is probed on: the targets that were given, or made-up ones of the same kind where those say too little.

A batch of one class, or of a handful of rows, satisfies nearly every invariance of nearly every metric, so it is
replaced, and the replacement is noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metricgrad.metrics.decoding import is_binary
from metricgrad.refactoring.lists import Within

Kind = Literal["binary", "graded", "classes"]

_MIN_ROWS = 16
_ROWS = 48
_MAX_ROWS = 2048
_ITEMS_PER_GROUP = 8


@dataclass(frozen=True)
class ProbeBatch:
    """Targets and context that a metric is called with, in canonical shapes.

    Attributes:
        targets: ``(N,)`` class indices, or targets shaped like the scores.
        shape: of the scores.
        kind: ``"binary"`` (0 and 1), ``"graded"`` (any other values shaped like the scores) or ``"classes"``.
        like: a scalar with the dtype and device of the scores.
        context: passed to the metric.
        note: what was replaced, and why; empty for given targets.
    """

    targets: Tensor
    shape: torch.Size
    kind: Kind
    like: Tensor
    context: Mapping[str, Tensor]
    note: str = ""

    @property
    def relevance(self) -> Tensor:
        """Targets shaped like the scores: one-hot for class indices."""
        if self.kind == "classes":
            return torch.nn.functional.one_hot(self.targets.long(), self.shape[-1])
        return self.targets

    @property
    def withins(self) -> tuple[Within, ...]:
        """What can make a list here, the narrower first."""
        if len(self.shape) > 1:
            return ("row", "column", "all")
        return ("group", "all") if "groups" in self.context else ("all",)

    def lists(self, within: Within) -> Tensor:
        """List number of each entry, flat."""
        entry = torch.arange(self.shape.numel())
        if within == "group":
            return self.context["groups"].cpu().unique(return_inverse=True)[1].reshape(-1)
        if within == "row":
            return entry // (len(entry) // self.shape[0])
        return entry % self.shape[-1] if within == "column" else torch.zeros_like(entry)


def given_batch(scores: Tensor, targets: Tensor, context: Mapping[str, Tensor]) -> ProbeBatch:
    """The batch as it was given; only shapes, dtype and device of the scores are used."""
    kind: Kind = "classes"
    if scores.shape == targets.shape:
        kind = "binary" if is_binary(targets) else "graded"
    return ProbeBatch(targets, scores.shape, kind, scores.detach().new_zeros(()), dict(context))


def poverty(batch: ProbeBatch) -> str:
    """Why the targets say too little to probe on; empty where they say enough."""
    if len(batch.targets) < _MIN_ROWS:
        return f"{len(batch.targets)} rows are too few"
    values, counts = batch.targets.unique(return_counts=True)
    if len(values) < 2:
        return f"every target is {float(values[0]):g}" if len(values) else "there are no targets"
    if batch.kind == "binary" and int(counts.min()) < 2:
        return f"only one target is {float(values[counts.argmin()]):g}"
    return ""


def synthetic_batch(batch: ProbeBatch, reason: str, generator: torch.Generator) -> ProbeBatch:
    """Made-up targets of the same kind: every class, or every row and column with both, as far as that is possible.

    Args:
        batch: what was given.
        reason: why it is replaced.
        generator: on the CPU.
    """
    columns = batch.shape[-1] if len(batch.shape) > 1 else 1
    rows = max(len(batch.targets), _ROWS, min(2 * columns, _MAX_ROWS) if batch.kind == "classes" else 0)
    tail = batch.targets.shape[1:]
    if batch.kind == "classes":
        drawn = torch.arange(rows)[torch.randperm(rows, generator=generator)] % columns
    elif batch.kind == "binary":
        drawn = _mixed(rows, tail, batch.targets, generator)
    else:
        drawn = _graded(torch.Size((rows, *tail)), batch.targets, generator)
    targets = drawn.to(batch.targets)
    shape = torch.Size((rows, *batch.shape[1:]))
    note = f"made-up {batch.kind} targets of shape {tuple(targets.shape)} were used, because {reason}"
    return ProbeBatch(targets, shape, batch.kind, batch.like, _resized(batch, rows, generator), note)


def _mixed(rows: int, tail: torch.Size, given: Tensor, generator: torch.Generator) -> Tensor:
    share = float(given.float().mean()) if given.numel() else 0.3
    share = share if 0.1 <= share <= 0.9 else 0.3
    drawn = torch.rand((rows, *tail), generator=generator) < share
    if not tail:
        # each stretch of four items, and so each query group, holds both
        drawn[::4], drawn[1::4] = True, False
        return drawn.long()
    flat = drawn.reshape(rows, -1)
    entry = torch.arange(rows)
    flat[entry, entry % flat.shape[1]] = True
    if flat.shape[1] > 1:
        flat[entry, (entry + 1) % flat.shape[1]] = False
    return flat.reshape(rows, *tail).long()


def _graded(shape: torch.Size, given: Tensor, generator: torch.Generator) -> Tensor:
    levels = given.detach().cpu().unique()
    if len(levels) < 3:
        if given.is_floating_point():
            return torch.randn(shape, generator=generator)
        levels = torch.arange(4)
    return levels[torch.randint(len(levels), shape, generator=generator)]


def _resized(batch: ProbeBatch, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Context for the new rows: fresh query groups, everything else drawn from what was given."""
    out: dict[str, Tensor] = {}
    for name, value in batch.context.items():
        if name == "groups":
            out[name] = (torch.arange(rows) // _ITEMS_PER_GROUP).to(value)
        elif value.ndim and len(value) and len(value) == len(batch.targets):
            out[name] = value[torch.randint(len(value), (rows,), generator=generator).to(value.device)]
        else:
            out[name] = value
    return out
