"""Blocks of rows drawn from stored (score, target) pairs: each gives one value of a loss and one of a metric."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metric import Metric
from metricgrad.metrics.decoding import canonical
from metricgrad.metrics.layouts import Layout, prepare_as

Block = tuple[Tensor, Tensor]
Read = Callable[[Tensor, Tensor], Block]
Kind = Literal["real", "mislabelled", "tempered", "shifted", "flipped", "random"]

_TRIES = 4


@dataclass(frozen=True)
class Store:
    """Stored pairs, in the package's shapes.

    Attributes:
        scores: ``(N,)`` or ``(N, C)`` logits, or what a form reads, rows first.
        targets: ``(N,)`` or ``(N, C)``, or what a form reads; below 0 is padding where they are classes.
        layout: of both; see :mod:`metricgrad.metrics.layouts`.
    """

    scores: Tensor
    targets: Tensor
    layout: Layout = "rows"

    @classmethod
    def of(cls, scores: Tensor, targets: Tensor, read: Read = canonical, *, layout: Layout = "rows") -> Store:
        """Checked pairs: rows in the shapes that ``read`` gives them, anything else in those of its layout.

        Raises:
            MetricgradError: for shapes that do not fit, scores that are not finite, or fewer than 32 rows.
        """
        if layout == "rows":
            scores, targets = read(scores.detach(), targets)
        else:
            stack, targets, _ = prepare_as(
                layout, scores.detach()[None], targets, {}, takes=frozenset(), keeps_apart=False, name="stored"
            )
            scores = stack[0]
        if len(targets) < 32:
            raise MetricgradError(f"{len(targets)} stored pairs are too few to draw blocks from; store 32 or more")
        if not bool(torch.isfinite(scores).all()):
            raise MetricgradError("stored scores are not all finite; leave those rows out")
        return cls(scores, targets, layout)

    def __len__(self) -> int:
        return len(self.targets)

    @functools.cached_property
    def spread(self) -> Tensor:
        """0-d: standard deviation of all scores."""
        return self.scores.std()

    def split(self, shares: Sequence[float], generator: torch.Generator) -> list[Store]:
        """Disjoint parts of these shares, at random."""
        order = torch.randperm(len(self), generator=generator).to(self.targets.device)
        sizes = [round(share * len(self)) for share in shares[:-1]]
        parts = order.split([*sizes, len(self) - sum(sizes)])
        return [Store(self.scores[rows], self.targets[rows], self.layout) for rows in parts]

    def draw(self, size: int, kind: Kind, generator: torch.Generator) -> Block:
        """One block of different rows (all rows where there are fewer).

        ``"real"`` rows are as stored; ``"mislabelled"`` ones have a share of their targets, drawn from U(0, 1),
        replaced. The scores of the others are multiplied by a factor from 1/4 to 4: that is all for ``"tempered"``
        ones; ``"shifted"`` ones also have each column moved by a random offset, as models do that predict too much or
        too little of a class; ``"flipped"`` ones are mislabelled; ``"random"`` scores know nothing of the targets.
        """
        rows = torch.randperm(len(self), generator=generator)[:size].to(self.targets.device)
        scores, targets = self.scores[rows], self.targets[rows]
        if kind not in ("real", "mislabelled"):
            scores = scores * 4 ** (2 * torch.rand((), generator=generator).item() - 1)
        if kind == "shifted":
            offset = torch.randn(scores.shape[1:], generator=generator).to(scores)
            scores = scores + 1.5 * self.spread * offset
        if kind == "random":
            scores = scores[torch.randperm(len(rows), generator=generator).to(rows.device)]
        if kind in ("mislabelled", "flipped"):
            targets = self._flipped(targets, torch.rand((), generator=generator).item(), generator)
        return scores, targets

    def _flipped(self, targets: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        chosen = (torch.rand(targets.shape, generator=generator) < rate).to(targets.device)
        if self.layout in ("maps", "spans"):  # a point or an answer is replaced whole
            return torch.where(chosen[:, :1], targets[torch.randperm(len(targets), generator=generator)], targets)
        if targets.is_floating_point() and not bool(((targets == 0) | (targets == 1)).all()):
            other = targets[torch.randperm(len(targets), generator=generator).to(targets.device)]
        elif self.scores.shape == self.targets.shape:
            other = 1 - targets.long()
        else:
            classes = self.scores.shape[-1]
            shift = torch.randint(1, max(2, classes), targets.shape, generator=generator)
            other = (targets.long() + shift.to(targets.device)) % classes
            chosen = chosen & (targets >= 0)
        return torch.where(chosen, other.to(targets.dtype), targets)


def labelled_by(
    metric: Metric, blocks: Callable[[], Block], count: int, *, keep: Read = lambda *block: block
) -> tuple[list[Block], Tensor]:
    """Blocks on which the metric is defined, and how bad each is: the metric, turned so that lower is better.

    ``keep`` is what is kept of a block once the metric has seen it. Returns fewer than ``count`` blocks where the
    metric is undefined on most draws.
    """
    found: list[Block] = []
    values: list[float] = []
    for _ in range(_TRIES * count):
        block = blocks()
        value = float(metric(*block, **_padding(*block)))
        if value == value:
            found.append(keep(*block))
            values.append(-value if metric.higher_is_better else value)
        if len(found) == count:
            break
    return found, torch.tensor(values, dtype=torch.float64)


def _padding(scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The mask that leaves padding out, where there is any."""
    classes = scores.ndim == targets.ndim + 1
    return {"mask": targets >= 0} if classes and bool((targets < 0).any()) else {}
