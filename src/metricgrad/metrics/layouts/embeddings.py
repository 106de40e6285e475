"""Embeddings: rows whose columns are no classes, each read beside all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.layouts.layout import Layout, Read, chosen, shuffled
from metricgrad.metrics.types import Apart


@dataclass(frozen=True, eq=False)
class Embeddings(Layout):
    """``(N, D)`` embeddings with ``(N,)`` class numbers of any size, prepared as rows or as they were given."""

    name: ClassVar[str] = "embeddings"
    of_embeddings: ClassVar[bool] = True
    base: Layout

    def _called(self, name: str) -> bool:
        return super()._called(name) or self.base == name

    def prepare(
        self,
        stack: Tensor,
        targets: Tensor,
        context: Mapping[str, Tensor | None],
        *,
        takes: frozenset[str],
        keeps_apart: Apart | None = None,
        name: str,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As the layout it is made of."""
        return self.base.prepare(stack, targets, context, takes=takes, keeps_apart=keeps_apart, name=name)

    def check(self, scores: Tensor, targets: Tensor, metric: str) -> None:
        """One embedding and one class a row."""
        if scores.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
            raise MetricgradError(
                f"metric {metric!r} reads embeddings: expected scores (N, D), D of 2 or more, and integer class "
                f"numbers (N,), got {tuple(scores.shape)} and {targets.dtype} {tuple(targets.shape)}"
            )

    def elements(self, scores: Tensor, targets: Tensor) -> int:
        """One for each row: distances are made row by row."""
        return len(scores)

    def padding(self, scores: Tensor, targets: Tensor) -> Tensor | None:
        """None: class numbers may be anything."""
        return None

    def predicted(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Refused: a row by itself says nothing of its class."""
        raise MetricgradError("embeddings predict no classes to stand for the true ones; leave paper out")

    def with_label_noise(self, scores: Tensor, targets: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        """Classes of which a share is replaced by those of other rows."""
        return torch.where(chosen(targets, rate, generator), targets[shuffled(targets, generator)], targets)

    def stored(self, scores: Tensor, targets: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """As the layout it is made of."""
        return self.base.stored(scores, targets, read)

    def stored_groups(self, scores: Tensor, targets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the layout it is made of."""
        return self.base.stored_groups(scores, targets, groups)

    def from_stored(self, read: Read) -> Read:
        """As the layout it is made of."""
        return self.base.from_stored(read)

    def rows_are_batches(self, targets: Tensor) -> bool:
        """A row is read beside all others."""
        return True
