"""What a metric is probed on: the targets that were given, or made-up ones of the same kind where those say too little.

A batch of one class, or of a handful of rows, satisfies nearly every invariance of nearly every metric, so it is
replaced, and the replacement is noted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metricgrad.metrics.decoding import is_binary
from metricgrad.refactoring.batch import Batch, Frame
from metricgrad.refactoring.ranking.lists import Within
from metricgrad.refactoring.strata import samples_of

Kind = Literal["binary", "graded", "classes"]

_MIN_ROWS = 16
_ROWS = 48
_MAX_ROWS = 2048
_ITEMS_PER_GROUP = 8
_MIN_SAMPLES = 4
_SAMPLES = 8
_MANY = 2**18
"""Entries of images and the like beyond which a part of them says enough: each of up to 200 calls sorts them all."""


@dataclass(frozen=True)
class ProbeBatch:
    """Targets and context that a metric is called with; the entries are one list, whatever their shape there.

    Attributes:
        targets: ``(K,)`` class indices of rows, or the targets of single entries.
        shape: of the scores: ``(K, C)`` or ``(K,)``.
        kind: ``"binary"`` (0 and 1), ``"graded"`` (any other values, one for each score) or ``"classes"``.
        like: a scalar with the dtype and device of the scores.
        context: passed to the metric.
        frame: where the entries lie in the batch that the metric is called on.
        note: what was replaced, and why; empty for given targets.
    """

    targets: Tensor
    shape: torch.Size
    kind: Kind
    like: Tensor
    context: Mapping[str, Tensor]
    frame: Frame
    note: str = ""

    def as_called(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The scores as the metric takes them, with its targets."""
        return self.frame.whole(scores.to(self.like)[None])[0], self.frame.targets

    @property
    def relevance(self) -> Tensor:
        """Targets shaped like the scores: one-hot for class indices."""
        if self.kind == "classes":
            return torch.nn.functional.one_hot(self.targets.long(), self.shape[-1])
        return self.targets

    @property
    def axes(self) -> int:
        """Of the targets that the metric is called with."""
        return self.frame.mask.ndim

    @property
    def of_samples(self) -> bool:
        """Whether there are images, sentences and the like, of which each holds several rows."""
        return self.axes > (1 if self.kind == "classes" else 2)

    @property
    def is_masked(self) -> bool:
        """Whether the metric is told what to leave out."""
        return "mask" in self.context

    @property
    def withins(self) -> tuple[Within, ...]:
        """What can make a list here, the narrower first."""
        if self.kind == "classes":
            return ("row", "column", "all")
        found: tuple[Within, ...] = ("row", "column")
        if self.axes != 2 or self.is_masked:
            found = () if self.axes == 1 else ("sample",) if self.is_masked else ("row", "sample", "column")
        return (*found, "group", "all") if "groups" in self.context else (*found, "all")

    def lists(self, within: Within) -> Tensor:
        """List number of each entry, flat; of each row for samples of rows of classes."""
        if self.kind == "classes" and within != "sample":
            entry, columns = torch.arange(self.shape.numel()), self.shape[1]
            return {"row": entry // columns, "column": entry % columns}.get(within, torch.zeros_like(entry))
        shape = self.frame.mask.shape
        entry, columns = torch.arange(shape.numel()), shape[-1] if len(shape) > 1 else 1
        if within == "group":
            numbers = self.context["groups"].cpu().unique(return_inverse=True)[1]
            found = numbers.reshape(*numbers.shape, *(1,) * (len(shape) - numbers.ndim)).expand(shape).reshape(-1)
        elif within == "sample":
            found = samples_of(shape, entry.device)
        elif within == "row":
            found = entry // columns
        else:
            found = entry % columns if within == "column" else torch.zeros_like(entry)
        return found[self.frame.mask.reshape(-1).cpu()]


def given_batch(given: Batch) -> ProbeBatch:
    """The batch as it was given; only shapes, dtype and device of the scores are used."""
    scores, targets = given.scores, given.targets
    same = scores.shape == targets.shape
    kind: Kind = ("binary" if is_binary(targets) else "graded") if same else "classes"
    frame = given.frame or Frame(torch.ones_like(targets, dtype=torch.bool), targets)
    like, context = scores.detach().new_zeros(()), dict(given.context)
    found = ProbeBatch(targets.reshape(-1), _flat(frame.mask, scores, same), kind, like, context, frame)
    most = max(_MIN_SAMPLES, _MANY // max(1, found.shape.numel() // max(1, len(frame.mask))))
    if not found.of_samples or len(frame.mask) <= most:
        return found
    frame = Frame(frame.mask[:most], frame.targets[:most])
    context = {name: value[:most] for name, value in context.items()}
    shape = _flat(frame.mask, scores, same)
    return dataclasses.replace(
        found, targets=frame.targets[frame.mask], shape=shape, context=context, frame=frame,
        note=f"the first {most} of {len(targets)} samples were used",
    )  # fmt: skip


def _flat(mask: Tensor, scores: Tensor, same: bool) -> torch.Size:
    """The shape of a list of the scores of the entries in the mask."""
    return torch.Size((int(mask.sum()), *(() if same else scores.shape[-1:])))


def poverty(batch: ProbeBatch) -> str:
    """Why the targets say too little to probe on; empty where they say enough."""
    samples = len(batch.frame.mask)
    if batch.of_samples and samples < _MIN_SAMPLES:
        return f"{samples} samples are too few"
    rows = len(batch.targets) if batch.of_samples else samples
    if rows < _MIN_ROWS:
        return f"{rows} rows are too few"
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
    columns = batch.shape[-1] if batch.kind == "classes" else 1
    tail = batch.frame.mask.shape[1:]
    wanted = max(_ROWS, min(2 * columns, _MAX_ROWS) if batch.kind == "classes" else 0)
    rows = max(len(batch.frame.mask), max(_SAMPLES, -(-wanted // max(1, tail.numel()))) if batch.of_samples else wanted)
    full = torch.Size((rows, *tail))
    if batch.kind == "classes":
        drawn = torch.arange(full.numel())[torch.randperm(full.numel(), generator=generator)].reshape(full) % columns
    elif batch.kind == "binary":
        drawn = _mixed(rows, tail, batch.targets, generator)
    else:
        drawn = _graded(full, batch.targets, generator)
    targets = drawn.to(batch.targets)
    context = _resized(batch, rows, generator)
    mask = torch.ones_like(targets, dtype=torch.bool)
    if batch.is_masked and bool(context["mask"].any()):
        given = context["mask"]
        mask = given.reshape(*given.shape, *(1,) * (mask.ndim - given.ndim)).expand(mask.shape)
    elif batch.is_masked:
        context["mask"] = mask
    shape = torch.Size((int(mask.sum()), *batch.shape[1:]))
    note = f"made-up {batch.kind} targets of shape {tuple(targets.shape)} were used, because {reason}"
    return ProbeBatch(targets[mask], shape, batch.kind, batch.like, context, Frame(mask, targets), note)


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
    given = len(batch.frame.mask)
    for name, value in batch.context.items():
        if name == "groups":
            fresh = (torch.arange(rows) // _ITEMS_PER_GROUP).to(value)
            out[name] = fresh.reshape(rows, *(1,) * (value.ndim - 1)).expand(rows, *value.shape[1:])
        elif value.ndim and given and len(value) == given:
            out[name] = value[torch.randint(len(value), (rows,), generator=generator).to(value.device)]
        else:
            out[name] = value
    return out
