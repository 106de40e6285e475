"""Entries of (N, C) targets, some of them masked: the columns or rows that each count by itself before an average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.precision import wide


@dataclass(frozen=True)
class Parts:
    """One list of entries, dealt to the columns or rows that each of them came from.

    Attributes:
        which: ``(M,)`` the part of each entry, from 0.
        weight: ``(P,)`` what the entries of each part weigh together.
        size: ``(P,)`` how many there are.
    """

    which: Tensor
    weight: Tensor
    size: Tensor

    @classmethod
    def of(cls, parts: Tensor, weight: Tensor | None) -> Parts:
        """Parts of ``(M,)`` numbers and weights."""
        _, which, size = parts.unique(return_inverse=True, return_counts=True)
        ones = wide(torch.ones_like(which) if weight is None else weight)
        return cls(which, ones.new_zeros(len(size)).index_add(0, which, ones), size)

    def total(self, values: Tensor) -> Tensor:
        """``(T, P)`` sums of ``(T, M)`` values."""
        values = wide(values)
        return values.new_zeros(len(values), len(self.size)).index_add(1, self.which, values)

    def mean(self, values: Tensor) -> Tensor:
        """``(T,)`` means over the parts that weigh anything of ``(T, P)`` values."""
        return torch.where(self.weight > 0, values, 0).sum(-1) / (self.weight > 0).sum()

    def mean_of_rows(self, values: Tensor) -> Tensor:
        """The same, each part weighing what one of its entries does."""
        return (values * (self.weight / self.size)).sum(-1) / (self.weight / self.size).sum()
