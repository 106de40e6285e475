"""Sums over the pairs of lists that lie side by side: of some items, by which each list is summed, and all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from metricgrad.functional.kernels import SIGMOID, Kernel
from metricgrad.functional.leak import LEAK
from metricgrad.functional.pair_sums import pair_sum

_HELD = {"cpu": 2**17}
"""Pairs that are held at a time, on the CPU as many as stay in its cache."""
_ELSEWHERE = 2**22
_LONG = 2**18
"""Pairs of one list from which on its sums are near-linear ones."""


def are_many(pairs: int) -> bool:
    """Whether so many pairs of one list are not held, but summed in near-linear time."""
    return pairs > _LONG


def parts_of(lists: int, pairs: int, device: torch.device) -> Iterator[slice]:
    """Which lists to take together, of lists that have so many pairs each."""
    step = 1 if are_many(pairs) else max(1, _HELD.get(device.type, _ELSEWHERE) // max(1, pairs))
    return (slice(start, start + step) for start in range(0, lists, step))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Lists that were taken in parts."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def total(parts: Sequence[Tensor]) -> Tensor:
    """0-d: the sum of what was found in parts."""
    return torch.stack(list(parts)).sum() if len(parts) > 1 else parts[0]


class HeldPairs:
    """All pairs of some lists.

    Args:
        up: ``(l, P)`` depths of the items that are summed by, finite.
        depth: ``(l, M)`` of those that are counted; infinite where one is not, which is far above nothing.
        mass: ``(l, M)`` what each counts; None where all count one.
    """

    def __init__(self, up: Tensor, depth: Tensor, mass: Tensor | None = None) -> None:
        self._mass, self._away = mass, up[:, :, None] - depth[:, None]
        self._sigmoid = self._away.sigmoid()
        self._known: tuple[Kernel, Tensor, Tensor] | None = None

    def near(self, kernel: Kernel) -> Tensor:
        """``(l, P)``: the sum over those that are counted."""
        return self._table(kernel)[1]

    def weighted(self, weights: Tensor, kernel: Kernel) -> Tensor:
        """``(l, M)``: the sum over the others, by ``(l, P)`` weights, at each that is counted."""
        found = torch.bmm(weights[:, None], self._table(kernel)[0])[:, 0]
        return found if self._mass is None else found * self._mass

    def _table(self, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """All pairs, and their sums."""
        if self._known is None or self._known[0] != kernel:
            found = kernel.of_sigmoid(self._sigmoid, self._away)
            sums = found.sum(2) if self._mass is None else torch.bmm(found, self._mass[..., None])[..., 0]
            self._known = kernel, found, sums
        return self._known[1:]


class SummedPairs:
    """The same of one long list, by near-linear sums."""

    def __init__(self, up: Tensor, depth: Tensor, mass: Tensor | None = None) -> None:
        self._up, self._counted = up[0].clamp(max=torch.finfo(up.dtype).max / 4), depth[0] < torch.inf
        self._depth, self._mass = depth[0][self._counted], None if mass is None else mass[0][self._counted]

    def near(self, kernel: Kernel) -> Tensor:
        """See :class:`HeldPairs`."""
        return pair_sum(self._up, self._depth, self._mass, kernel)[None]

    def weighted(self, weights: Tensor, kernel: Kernel) -> Tensor:
        """See :class:`HeldPairs`."""
        found = pair_sum(-self._depth, -self._up, weights[0], kernel)
        found = found if self._mass is None else found * self._mass
        return found.new_zeros(self._counted.shape).masked_scatter(self._counted, found)[None]


def pulled(
    pairs: HeldPairs | SummedPairs, surely: HeldPairs | SummedPairs | None, weights: Tensor, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """Gradients of weighted sums: ``(l, M)`` at each that is counted, ``(l, P)`` at each first, of a weight of 1.

    Args:
        pairs: whose kernel is summed.
        surely: the same from :data:`metricgrad.functional.leak.START` on, where what is surely wrong keeps a slope.
        weights: ``(l, P)``.
        kernel: that rises.
    """
    steep = kernel.derivative()
    pull, near = pairs.weighted(weights, steep), pairs.near(steep)
    if surely is not None:
        pull = pull + LEAK * surely.weighted(weights, SIGMOID)
        near = near + LEAK * surely.near(SIGMOID)
    return pull, near


def pairs_of(up: Tensor, depth: Tensor, mass: Tensor | None = None) -> HeldPairs | SummedPairs:
    """By whichever is cheaper."""
    return (SummedPairs if are_many(up.shape[1] * depth.shape[1]) else HeldPairs)(up, depth, mass)
