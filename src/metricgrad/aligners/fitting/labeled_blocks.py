"""Many blocks with the target loss of each, stacked so that a form values them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from metricgrad.aligners.fitting.blocks import Block
from metricgrad.functional.by_group import by_group
from metricgrad.losses.networks.base import NetworkForm

_PADDING = -1


@dataclass(frozen=True)
class LabeledBlocks:
    """V blocks and the target loss of each.

    Attributes:
        scores: ``(V, N, ...)``; with groups, shorter blocks are padded.
        targets: ``(V, N, ...)``, likewise.
        target_loss: ``(V,)`` float64, the metric turned so that lower is better.
        groups: ``(V, N)`` the query of each row, numbered from 0 in each block, -1 for padding; or None.
    """

    scores: Tensor
    targets: Tensor
    target_loss: Tensor
    groups: Tensor | None = None

    @classmethod
    def of(cls, blocks: Sequence[Block], target_loss: Tensor) -> LabeledBlocks:
        """Stack blocks, which are of one size unless they have groups."""
        scores, targets = [block.scores for block in blocks], [block.targets for block in blocks]
        groups = [block.groups.unique(return_inverse=True)[1] for block in blocks if block.groups is not None]
        if not groups:
            return cls(torch.stack(scores), torch.stack(targets), target_loss)
        numbers = pad_sequence(groups, batch_first=True, padding_value=_PADDING)
        return cls(
            pad_sequence(scores, batch_first=True), pad_sequence(targets, batch_first=True), target_loss, numbers
        )

    def some(self, blocks: Tensor) -> LabeledBlocks:
        """The blocks of these numbers."""
        groups = None if self.groups is None else self.groups[blocks]
        return LabeledBlocks(self.scores[blocks], self.targets[blocks], self.target_loss[blocks], groups)

    def values(self, form: NetworkForm) -> Tensor:
        """``(V,)``: what the form says of each block, the mean over its groups where it has any."""
        if self.groups is None:
            return form.over(self.scores, self.targets)
        count, most = len(self.groups), int(self.groups.max()) + 1
        kept = self.groups != _PADDING
        numbers = (self.groups + most * torch.arange(count, device=self.groups.device)[:, None])[kept]
        found, values = by_group(form.over, numbers, self.scores[kept], self.targets[kept])
        block = found // most
        return values.new_zeros(count).index_add(0, block, values) / block.bincount(minlength=count)
