r"""What deciding a row of target y as b is worth, :math:`V_{yb}`; only differences within a row mean anything."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.constants import listed


class Utilities(abc.ABC):
    """Abstract: utilities of all pairs of classes."""

    @abc.abstractmethod
    def gains(self, dtype: torch.dtype) -> Tensor:
        """``(2,)`` in some dtype: :math:`V_{y1} - V_{y0}`, of two classes."""

    @abc.abstractmethod
    def rows(self, targets: Tensor, like: Tensor) -> Tensor:
        """``(N, C)`` rows of ``(N,)`` targets, in the dtype of ``like``; new memory."""


@dataclass(frozen=True)
class ClassUtilities(Utilities):
    r""":math:`V_{yb} = p_b + [y = b] \, r_y + n_y g_b`, which takes memory for classes and not for pairs of them.

    Attributes:
        predicted: ``(C,)`` p.
        right: ``(C,)`` r, or None.
        near: ``(C,)`` n, or None.
        grade: ``(C,)`` g, or None.
    """

    predicted: Tensor
    right: Tensor | None = None
    near: Tensor | None = None
    grade: Tensor | None = None

    def rows(self, targets: Tensor, like: Tensor) -> Tensor:
        """See :class:`Utilities`."""
        out = like.new_empty(len(targets), len(self.predicted)).copy_(self.predicted)
        if self.near is not None and self.grade is not None:
            out.addcmul_(self.near[targets].to(out)[:, None], self.grade.to(out))
        if self.right is not None:
            out.scatter_add_(1, targets[:, None], self.right.to(out).index_select(0, targets)[:, None])
        return out

    def gains(self, dtype: torch.dtype) -> Tensor:
        """See :class:`Utilities`."""
        found = self.predicted[1] - self.predicted[0]
        if self.near is not None and self.grade is not None:
            found = found + self.near * (self.grade[1] - self.grade[0])
        if self.right is None:
            return found.to(dtype).expand(2)
        signs = listed((-1.0, 1.0), self.right.dtype, self.right.device)
        return torch.addcmul(found, self.right, signs, out=torch.empty_like(signs, dtype=dtype))

    def __neg__(self) -> ClassUtilities:
        right, near = (None if part is None else -part for part in (self.right, self.near))
        return ClassUtilities(-self.predicted, right, near, self.grade)


@dataclass(frozen=True)
class TableUtilities(Utilities):
    """Attributes:
    table: ``(C, C)``.
    """

    table: Tensor

    def rows(self, targets: Tensor, like: Tensor) -> Tensor:
        """See :class:`Utilities`."""
        return self.table[targets].to(like.dtype)

    def gains(self, dtype: torch.dtype) -> Tensor:
        """See :class:`Utilities`."""
        return (self.table[:, 1] - self.table[:, 0]).to(dtype)
