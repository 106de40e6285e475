r"""What deciding a row of target y as b is worth, :math:`V_{yb}`; only differences within a row mean anything."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from torch import Tensor


class Utilities(abc.ABC):
    """Abstract: utilities of all pairs of classes."""

    @abc.abstractmethod
    def rows(self, targets: Tensor, like: Tensor) -> Tensor:
        """``(N, C)`` rows of ``(N,)`` targets, in the dtype of ``like``; new memory."""


@dataclass(frozen=True)
class ClassUtilities(Utilities):
    r""":math:`V_{yb} = p_b + [y = b] \, r_y + n_y g_b`, which takes memory for classes and not for pairs of them.

    Attributes:
        predicted: ``(C,)`` p.
        right: ``(C,)`` r.
        near: ``(C,)`` n, or None.
        grade: ``(C,)`` g, or None.
    """

    predicted: Tensor
    right: Tensor
    near: Tensor | None = None
    grade: Tensor | None = None

    def rows(self, targets: Tensor, like: Tensor) -> Tensor:
        """See :class:`Utilities`."""
        out = like.new_empty(len(targets), len(self.predicted)).copy_(self.predicted)
        if self.near is not None and self.grade is not None:
            out.addcmul_(self.near[targets].to(out)[:, None], self.grade.to(out))
        return out.scatter_add_(1, targets[:, None], self.right.to(out).index_select(0, targets)[:, None])

    def __neg__(self) -> ClassUtilities:
        near = None if self.near is None else -self.near
        return ClassUtilities(-self.predicted, -self.right, near, self.grade)


@dataclass(frozen=True)
class TableUtilities(Utilities):
    """Attributes:
    table: ``(C, C)``.
    """

    table: Tensor

    def rows(self, targets: Tensor, like: Tensor) -> Tensor:
        """See :class:`Utilities`."""
        return self.table[targets].to(like.dtype)
