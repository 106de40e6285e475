"""Many classes as few columns: those that no target and no prediction has are one to most metrics, and share a move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.metrics.fast_paths import ClassNames
from metricgrad.refactoring.strata import first_of_each

_FEW = 64
"""Classes that are each a column of their own: to put some together would cost more than it saves."""


@dataclass(frozen=True)
class ClassColumns:
    """C classes in P columns.

    Attributes:
        of: ``(C,)`` the column of each class.
        classes: ``(P,)`` one class of each column.
    """

    of: Tensor
    classes: Tensor

    @staticmethod
    def over(classes: int, present: Tensor, names: ClassNames) -> ClassColumns:
        """A column for each class that is present, and for all others that a metric cannot tell apart.

        Args:
            classes: C.
            present: numbers of those that are a target or a prediction of the batch, in any order, repeated or not.
            names: see :class:`metricgrad.metrics.of_labels.OfLabels`. Where only the order matters, columns are in the
                order of their classes, and the absent classes between two present ones are one.
        """
        every = torch.arange(classes, device=present.device)
        if names == "kept" or classes <= _FEW:
            return ClassColumns(every, every)
        present = present.unique()
        above = torch.searchsorted(present, every)
        there = present[above.clamp(max=len(present) - 1)] == every
        gap = above if names == "ordered" else len(present)
        return ClassColumns(*first_of_each(2 * torch.where(there, above, gap) + there))

    def grouped(self, log_share: Tensor) -> Tensor:
        """``(R, P)`` log-probabilities of columns from ``(R, C)`` of classes, exact where they are vanishing."""
        if len(self.classes) == len(self.of):
            return log_share
        of, shape = self.of.expand_as(log_share), (len(log_share), len(self.classes))
        known = log_share.detach()
        top = known.new_full(shape, -torch.inf).scatter_reduce(1, of, known, "amax")
        return top + log_share.new_zeros(shape).scatter_add(1, of, (log_share - top[:, self.of]).exp()).log()
