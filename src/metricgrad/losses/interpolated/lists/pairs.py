"""Sums over the pairs of lists that lie side by side: of some items, by which each list is summed, and all others."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metricgrad.functional.kernels import Kernel
from metricgrad.functional.pair_sums import pair_sum

_HELD = {"cpu": 2**17}
"""Pairs that are held at a time, on the CPU as many as stay in its cache."""
_ELSEWHERE = 2**22
_LONG = 2**18
"""Pairs of one list from which on its sums are near-linear ones."""


def parts_of(lists: int, pairs: int, device: torch.device) -> Iterator[slice]:
    """Which lists to take together, of lists that have so many pairs each."""
    step = 1 if pairs > _LONG else max(1, _HELD.get(device.type, _ELSEWHERE) // max(1, pairs))
    return (slice(start, start + step) for start in range(0, lists, step))


def joined(parts: list[Tensor]) -> Tensor:
    """Lists that were taken in parts."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


class HeldPairs:
    """All pairs of some lists.

    Args:
        up: ``(l, P)`` depths of the items that are summed by; infinite where a list has fewer.
        depth: ``(l, M)`` of all items, finite.
        others: ``(l, M)`` booleans: which of them count.
    """

    def __init__(self, up: Tensor, depth: Tensor, others: Tensor) -> None:
        self._away, self._others = up[:, :, None] - depth[:, None], others[:, None]
        self._known: tuple[Kernel, Tensor] | None = None

    def near(self, kernel: Kernel) -> Tensor:
        """``(l, P)``: the sum over the others."""
        return self._table(kernel).sum(2)

    def weighted(self, weights: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """``(l, M)`` weighted sums over the first at each of the others, and ``(l, P)`` of the others at each first."""
        found = self._table(kernel)
        weights = weights.to(found)
        return torch.bmm(weights[:, None], found)[:, 0], weights * found.sum(2)

    def _table(self, kernel: Kernel) -> Tensor:
        if self._known is None or self._known[0] != kernel:
            self._known = kernel, kernel(self._away) * self._others
        return self._known[1]


class SummedPairs:
    """The same of one long list, by near-linear sums."""

    def __init__(self, up: Tensor, depth: Tensor, others: Tensor) -> None:
        self._up, self._depth, self._others = up[0].clamp(max=torch.finfo(up.dtype).max / 4), depth[0], others[0]

    def near(self, kernel: Kernel) -> Tensor:
        """See :class:`HeldPairs`."""
        return pair_sum(self._up, self._depth[self._others], kernel=kernel)[None]

    def weighted(self, weights: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """See :class:`HeldPairs`."""
        weights, near = weights.to(self._up), pair_sum(self._up, self._depth[self._others], kernel=kernel)
        out = torch.zeros_like(self._depth)
        out[self._others] = pair_sum(-self._depth[self._others], -self._up, weights[0], kernel)
        return out[None], weights * near


def pairs_of(up: Tensor, depth: Tensor, others: Tensor) -> HeldPairs | SummedPairs:
    """By whichever is cheaper."""
    short = up.shape[1] * depth.shape[1] <= _LONG
    return HeldPairs(up, depth, others) if short else SummedPairs(up, depth, others)
