"""Decisions of yes or no that a metric counts in lists: columns, rows, the entries of each image, or all as one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metricgrad.functional.constants import counted, listed
from metricgrad.metrics.context import PARTS
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.families.queries import weights_of_queries
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.of_labels import OfLabels, OfTables
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch

_AT_ONCE = 2**19
"""Entries whose tables are held at once, some 400 bytes each."""


@dataclass(frozen=True)
class EntryLists:
    """E entries in L lists.

    Attributes:
        path: what the metric of one list is of its table.
        which: ``(E,)`` the list of each entry, from 0.
        count: L.
        weight: ``(E,)`` float64 of each entry within its list, or None for ones.
        share: ``(L,)`` float64 of each list in the mean, or None for ones.
        by_support: whether each list counts besides as often as it has a yes among its targets.
    """

    path: OfTables
    which: Tensor
    count: int
    weight: Tensor | None = None
    share: Tensor | None = None
    by_support: bool = False

    def cells(self, yes: Tensor, targets: Tensor) -> Tensor:
        """``(S, L, 2, 2)`` tables by target and decision of S sets of decisions.

        Args:
            yes: ``(S, E)`` float64 from 0 to 1, how much of each entry is decided as yes.
            targets: ``(E,)`` whole numbers, 0 or 1.
        """
        both = torch.stack([1 - yes, yes], 1)
        both = both if self.weight is None else both * self.weight
        cell = self.which.mul(2).add_(targets).expand(2 * len(yes), -1)
        empty = both.new_zeros(2 * len(yes), 2 * self.count)
        return empty.scatter_add_(1, cell, both.flatten(0, 1)).view(-1, 2, self.count, 2).permute(0, 2, 3, 1)

    def changes(self, cells: Tensor, yes: Tensor, targets: Tensor, share: Tensor) -> Tensor:
        """``(E,)`` float64: what deciding each entry as yes, not as no, is worth to the mean; 0 where it is undefined.

        Args:
            cells: ``(L, 2, 2)``, where the others stand.
            yes: ``(E,)`` how much of each entry is yes there.
            targets: as in :meth:`cells`.
            share: ``(L,)`` what each list counts.
        """
        if len(yes) <= _AT_ONCE:
            return self._changes(cells, share, yes, targets, self.which, self.weight)
        weights = itertools.repeat(None) if self.weight is None else self.weight.split(_AT_ONCE)
        parts = zip(yes.split(_AT_ONCE), targets.split(_AT_ONCE), self.which.split(_AT_ONCE), weights, strict=False)
        return torch.cat([self._changes(cells, share, *part) for part in parts])

    def _changes(
        self, cells: Tensor, share: Tensor, yes: Tensor, targets: Tensor, which: Tensor, weight: Tensor | None
    ) -> Tensor:
        moved = torch.stack([-yes, 1 - yes])  # from where it stands to no, and to yes
        moved = moved if weight is None else moved * weight
        signs = listed((-1.0, 1.0), moved.dtype, moved.device)
        row = (targets[:, None] == counted(2, targets.dtype, targets.device)).to(moved)
        tables = torch.addcmul(cells[which], (row * moved[..., None])[..., None], signs)
        no, yes = self.path.values(ConfusionTables.of_cells(tables.flatten(0, 1))).view(2, -1).unbind()
        return ((yes - no) * share[which]).nan_to_num_()

    def means(self, cells: Tensor, yes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """``(S,)`` means of the metric over the lists that have one, and ``(L,)`` what each list counts in the last.

        Where none has one all of these are NaN.

        Args:
            cells: ``(S, L, 2, 2)``.
            yes: as in :meth:`cells`, of the same sets.
            targets: likewise.
        """
        tables = ConfusionTables.of_cells(cells.flatten(0, 1))
        if self.weight is not None:  # entries of weight 0 are there
            tables = tables.seen_where(replace(self, weight=None).cells(yes, targets).flatten(0, 1))
        values = self.path.shown(tables, self.path.values(tables)).view(len(cells), -1)
        share = (values == values).to(values)
        share = share if self.share is None else share * self.share
        if self.by_support:
            support = cells[-1, :, 1].sum(-1)
            share = share * torch.where(support.any(), support, 1)
        share = share / share.sum(1, keepdim=True)
        return (values.nan_to_num() * share).sum(1), share[-1]


def entry_lists(path: FastPath | None, batch: Batch, structure: Structure) -> EntryLists | None:
    """The lists of a batch of decisions of yes or no; None where the metric is not known as one of their tables.

    Cost: the host waits for how many lists there are, where that is not in the shape of the batch.
    """
    if structure.kind != "labels" or batch.scores.shape != batch.targets.shape or batch.frame is not None:
        return None
    apart = structure.exchangeable
    columns = batch.targets.ndim == 2 or PARTS in batch.context  # without, a no is a class like a yes
    of_columns = path.of_list if isinstance(path, OfLabels) and columns else None
    of_list = path if of_columns is None and apart == "all" and isinstance(path, OfTables) else of_columns
    if of_list is None:
        return None
    if "groups" in batch.context:
        return _of_groups(of_list, batch) if apart == "all" else None
    found = _of_parts(of_list, batch, apart) if PARTS in batch.context else _of_shape(of_list, batch, apart)
    by_support = of_columns is not None and isinstance(path, OfLabels) and path.by_support
    return replace(found, by_support=True) if by_support and found is not None else found


def _of_groups(path: OfTables, batch: Batch) -> EntryLists:
    """All entries of a group are a list, which has the weight of the group."""
    groups, weight = batch.context["groups"], batch.context.get("sample_weight")
    numbers, which = groups.unique(return_inverse=True)
    share = None if weight is None else wide(weights_of_queries(weight, groups))
    return EntryLists(path, which.repeat_interleave(batch.targets[0].numel()), len(numbers), share=share)


def _of_parts(path: OfTables, batch: Batch, apart: str) -> EntryLists:
    """What a mask has left of columns or rows; of columns those count that weigh anything, rows as they weigh."""
    parts, weight = batch.context[PARTS], _wide(batch.context.get("sample_weight"))
    if apart == "all":
        return EntryLists(path, torch.zeros_like(parts), 1, weight)
    numbers, which = parts.unique(return_inverse=True)
    if weight is None:
        return EntryLists(path, which, len(numbers))
    of_list = weight.new_zeros(len(numbers)).scatter_reduce(0, which, weight, "amax")
    if apart == "row":
        return EntryLists(path, which, len(numbers), share=of_list)
    return EntryLists(path, which, len(numbers), weight, (of_list > 0).to(weight))


def _of_shape(path: OfTables, batch: Batch, apart: str) -> EntryLists | None:
    shape, weight = batch.targets.shape, batch.context.get("sample_weight")
    entry = counted(shape.numel(), torch.int64, batch.targets.device)
    each = None if weight is None or apart == "row" else wide(weight).repeat_interleave(shape[1:].numel())
    if apart == "all":
        return EntryLists(path, torch.zeros_like(entry), 1, each)
    if len(shape) != 2:
        return None
    if apart == "column":
        return EntryLists(path, entry % shape[1], shape[1], each)
    return EntryLists(path, entry // shape[1], shape[0], share=_wide(weight)) if apart == "row" else None


def _wide(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else wide(weight)
