"""Blocks of rows drawn from stored (score, target) pairs: each gives one value of a loss and one of a metric."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.aligners.fitting.augmentation import Augmentation, augmented, augmented_embeddings
from metricgrad.aligners.fitting.block_rows import rows_by, sample_per_class, whole_groups
from metricgrad.checks import check_tensor, where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.metrics.decoding import canonical
from metricgrad.metrics.layouts.embeddings import Embeddings
from metricgrad.metrics.layouts.layout import ROWS, Layout, Read
from metricgrad.metrics.metric import Metric

_TRIES = 4
_QUERIES = 8


class Block(NamedTuple):
    """Rows that make one loss and one metric value.

    Attributes:
        scores: rows first.
        targets: likewise.
        groups: ``(N,)`` the query of each row, where the metric ranks within queries.
    """

    scores: Tensor
    targets: Tensor
    groups: Tensor | None = None

    @property
    def context(self) -> dict[str, Tensor]:
        """What goes with the rows into a loss or a metric."""
        return {} if self.groups is None else {"groups": self.groups}


@dataclass(frozen=True)
class ScoreStore:
    """Stored pairs, in the package's shapes.

    Attributes:
        scores: ``(N,)`` or ``(N, C)`` logits, ``(N, D)`` embeddings, what a form reads, or what a callable takes: rows,
            images or sentences first.
        targets: ``(N,)`` or ``(N, C)``, or likewise; below 0 is padding where they are classes.
        layout: of both; see :mod:`metricgrad.metrics.layouts.layout`.
        groups: ``(N,)`` which rows belong together, or None.
        per_class: None, or for embeddings the rows of a class in a block.
    """

    scores: Tensor
    targets: Tensor
    layout: Layout = ROWS
    groups: Tensor | None = None
    per_class: int | None = None

    @classmethod
    def of(
        cls,
        scores: Tensor,
        targets: Tensor,
        read: Read = canonical,
        *,
        layout: Layout = ROWS,
        groups: Tensor | None = None,
        per_class: int | None = None,
    ) -> ScoreStore:
        """Checked pairs: rows in the shapes that ``read`` gives them, anything else in those of its layout.

        Raises:
            MetricgradError: for shapes that do not fit, scores that are not finite, or fewer than 32 rows.
        """
        check_tensor("scores", scores)
        check_tensor("targets", targets)
        scores = scores.detach()
        if groups is not None:
            scores, targets, groups = layout.stored_groups(scores, targets, groups)
            if per_class is None and len(groups.unique()) < _QUERIES:
                raise MetricgradError(
                    f"the stored rows are of {len(groups.unique())} groups, of which blocks are made whole; store "
                    f"{_QUERIES} or more"
                )
        scores, targets = layout.stored(scores, targets, read)
        if len(targets) < 32:
            raise MetricgradError(f"{len(targets)} stored pairs are too few to draw blocks from; store 32 or more")
        for what, values in (("scores", scores), ("targets", targets)):
            if found := where_not_finite(values):
                raise MetricgradError(f"stored {what} hold {found}; leave those rows out")
        if per_class is not None and (scores.ndim, targets.ndim) != (2, 1):
            raise MetricgradError(
                f"stored embeddings are scores (N, D) with targets (N,), one class for each, got {tuple(scores.shape)} "
                f"and {tuple(targets.shape)}"
            )
        if per_class is not None and not layout.of_embeddings:
            layout = Embeddings(layout)
        return cls(scores, targets, layout, groups, per_class)

    def __len__(self) -> int:
        return len(self.targets)

    @functools.cached_property
    def spread(self) -> Tensor:
        """0-d: standard deviation of all scores."""
        return self.scores.std()

    @functools.cached_property
    def parts(self) -> list[Tensor]:
        """The rows of each group; all rows where there are none."""
        return [torch.arange(len(self))] if self.groups is None else rows_by(self.groups)

    @functools.cached_property
    def classes(self) -> list[list[Tensor]]:
        """For embeddings: in each part, the rows of each class of two or more."""
        found = [[part[rows] for rows in rows_by(self.targets[part]) if len(rows) > 1] for part in self.parts]
        if not all(found):
            raise MetricgradError(
                "there are stored embeddings of which no two have one class and one group; pass more of each class"
            )
        return found

    def kept(self, form: NetworkForm) -> Read:
        """What is kept of a block once the metric has seen it: what the form reads of it, as small as can be."""
        read = self.layout.from_stored(form.read)
        return lambda scores, targets: form.reader.condensed(*read(scores, targets))

    def fits(self, size: int) -> int:
        """Rows of a block: ``size``, or half of what there is to choose from."""
        if self.per_class is None:
            return min(size, max(2, len(self) // 2))
        return min(size, max(2, min(sum(len(rows) for rows in part) for part in self.classes) // 2))

    def split(self, shares: Sequence[float], generator: torch.Generator) -> list[ScoreStore]:
        """Disjoint parts of these shares, at random; whole queries, where rows are of queries."""
        whole_groups = self.groups is not None and self.per_class is None
        count = len(self.parts) if whole_groups else len(self)
        order = torch.randperm(count, generator=generator)
        sizes = [round(share * count) for share in shares[:-1]]
        dealt = order.split([*sizes, count - sum(sizes)])
        if whole_groups:
            dealt = [torch.cat([self.parts[i] for i in some.tolist()]) for some in dealt]
        return [self._of(rows) for rows in dealt]

    def draw(self, size: int, kind: Augmentation, generator: torch.Generator) -> Block:
        """One block of different rows (all rows where there are fewer): whole queries, where rows are of queries.

        ``"real"`` rows are as stored; ``"label_noise"`` ones have a share of their targets, drawn from U(0, 1),
        replaced. The scores of the others are multiplied by a factor from 1/4 to 4: that is all for ``"tempered"``
        ones; ``"shifted"`` ones also have each column moved by a random offset, as models do that predict too much or
        too little of a class; ``"flipped"`` ones have label noise too; ``"random"`` scores know nothing of the targets.

        Of embeddings, a block has several rows of each of a few classes, all of one group. A common factor would say
        nothing, so ``"tempered"`` ones lie somewhere on the way to random directions of their own, and ``"shifted"``
        ones on the way to one direction for all, as those of models that tell little apart; ``"random"`` ones are those
        of other rows.
        """
        if self.per_class is not None:
            part = self.classes[int(torch.randint(len(self.classes), (), generator=generator))]
            rows = sample_per_class(part, size, min(self.per_class, max(2, size // 2)), generator).to(
                self.targets.device
            )
            pair = self.scores[rows], self.targets[rows]
            return Block(*augmented_embeddings(*pair, kind, layout=self.layout, generator=generator))
        if self.groups is None:
            rows = torch.randperm(len(self), generator=generator)[:size]
        else:
            rows = whole_groups(self.parts, size, generator)
        rows = rows.to(self.targets.device)
        pair = augmented(
            self.scores[rows], self.targets[rows], kind, layout=self.layout, spread=self.spread, generator=generator
        )
        return Block(*pair, None if self.groups is None else self.groups[rows])

    def _of(self, rows: Tensor) -> ScoreStore:
        rows = rows.to(self.targets.device)
        groups = None if self.groups is None else self.groups[rows]
        return ScoreStore(self.scores[rows], self.targets[rows], self.layout, groups, self.per_class)


def labelled_by(
    metric: Metric, blocks: Callable[[], Block], count: int, *, keep: Read = lambda *pair: pair
) -> tuple[list[Block], Tensor]:
    """Blocks on which the metric is defined, and the target loss of each: the metric, turned so that lower is better.

    ``keep`` is what is kept of a block once the metric has seen it. Returns fewer than ``count`` blocks where the
    metric is undefined on most draws.
    """
    found: list[Block] = []
    values: list[float] = []
    for _ in range(_TRIES * count):
        block = blocks()
        kept = metric.layout.padding(block.scores, block.targets)
        value = float(metric(block.scores, block.targets, **block.context, mask=kept))
        if value == value:
            found.append(Block(*keep(block.scores, block.targets), block.groups))
            values.append(-value if metric.higher_is_better else value)
        if len(found) == count:
            break
    return found, torch.tensor(values, dtype=torch.float64)
