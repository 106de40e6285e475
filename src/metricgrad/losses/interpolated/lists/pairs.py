"""Sums over the pairs of lists that lie side by side: of some items, by which each list is summed, and all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.functional.constants import filled
from metricgrad.functional.kernels import SIGMOID, Kernel
from metricgrad.functional.lattice import STEP
from metricgrad.functional.leak import LEAK
from metricgrad.functional.pair_sums import WINDOW, Lattice, pair_sum
from metricgrad.losses.interpolated.lists.softening import Softening
from metricgrad.precision import wide

_HELD = {"cpu": 2**17}
"""Pairs that are held at a time, on the CPU as many as stay in its cache."""
_ELSEWHERE = 2**22
_LONG = 2**18
"""Pairs of one list from which on its sums are near-linear ones."""
_POINTS = 2**16
"""Items of lists whose sums are near-linear ones, at a time."""
_AN_ITEM, _A_NODE = 64, 8
"""What an item of such a list, and a node of its lattice, takes of the time that a pair does which is held."""


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Lists that were taken in parts."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def total(parts: Sequence[Tensor]) -> Tensor:
    """The sum of what was found in parts, entry by entry."""
    return torch.stack(list(parts)).sum(0) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class Plan:
    """How the sums over the pairs of lists are taken.

    Attributes:
        summed: whether by near-linear sums, or over pairs that are held.
        step: how many lists at a time.
    """

    summed: bool
    step: int

    @classmethod
    def of(cls, firsts: int, values: Tensor) -> Plan:
        """The cheaper one; on a device, of which the range of values is not asked, pairs are held as long as that goes.

        Args:
            firsts: how many items of each list are summed by.
            values: ``(L, M)`` of all items.
        """
        pairs, items = firsts * values.shape[1], firsts + values.shape[1]
        summed = pairs > _LONG
        if not summed and values.device.type == "cpu" and pairs > _AN_ITEM * items:
            low, high = values.detach().aminmax()
            summed = pairs > _AN_ITEM * items + _A_NODE * float(high - low) / STEP
        return cls(True, max(1, _POINTS // items)) if summed else cls(False, _held_at_once(pairs, values.device))

    @classmethod
    def singly(cls, values: Tensor) -> Plan:
        """Of all pairs of ``(L, M)`` items, where near-linear sums take one list at a time."""
        pairs = values.shape[1] ** 2
        return cls(True, 1) if pairs > _LONG else cls(False, _held_at_once(pairs, values.device))

    def parts(self, lists: int) -> Iterator[slice]:
        """Which of so many lists to take together."""
        return (slice(start, start + self.step) for start in range(0, lists, self.step))

    def pairs(self, up: Tensor, depth: Tensor, mass: Tensor | None = None) -> HeldPairs | SummedPairs:
        """See both."""
        return (SummedPairs if self.summed else HeldPairs)(up, depth, mass)


def _held_at_once(pairs: int, device: torch.device) -> int:
    """How many lists that have so many pairs each."""
    return max(1, _HELD.get(device.type, _ELSEWHERE) // max(1, pairs))


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

    def weighted(self, weights: Tensor, kernel: Kernel, times: float = 1.0) -> Tensor:
        """``(l, M)``: so many times the sum over the others, by ``(l, P)`` weights, at each that is counted."""
        nothing = filled(0.0, 1, weights.dtype, weights.device)
        found = torch.baddbmm(nothing, weights[:, None], self._table(kernel)[0], beta=0, alpha=times)[:, 0]
        return found if self._mass is None else found * self._mass

    def _table(self, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """All pairs, and their sums."""
        if self._known is None or self._known[0] != kernel:
            found = kernel.of_sigmoid(self._sigmoid, self._away)
            sums = found.sum(2) if self._mass is None else torch.bmm(found, self._mass[..., None])[..., 0]
            self._known = kernel, found, sums
        return self._known[1:]


class SummedPairs:
    """The same by near-linear sums: those of all lists on one lattice.

    Each list by itself, of any range, where they do not fit on one or where a graph is asked for.
    """

    def __init__(self, up: Tensor, depth: Tensor, mass: Tensor | None = None) -> None:
        self._up, self._depth, self._mass, self._counted = up, depth, mass, depth != torch.inf
        self._lattice = None if up.requires_grad or depth.requires_grad else self._on_one_lattice()
        if self._lattice is not None:
            given = self._counted if mass is None else mass.masked_fill(~self._counted, 0)
            self._of_counted = self._lattice.of_y(wide(given))

    def _on_one_lattice(self) -> Lattice | None:
        there = torch.cat([self._up.flatten(), self._depth[self._counted]])
        low, high = torch.stack(there.aminmax()).tolist() if there.numel() else (0.0, 0.0)
        if not high - low <= WINDOW:  # nor where one of them is infinite or NaN
            return None
        return Lattice(*(wide(side).clamp(low, high) for side in (self._up, self._depth)))

    def near(self, kernel: Kernel) -> Tensor:
        """See :class:`HeldPairs`."""
        if self._lattice is not None:
            return self._lattice.at_x(self._of_counted, kernel).to(self._up.dtype)
        return torch.stack([pair_sum(*of_list, kernel) for of_list in self._each()])

    def weighted(self, weights: Tensor, kernel: Kernel, times: float = 1.0) -> Tensor:
        """See :class:`HeldPairs`."""
        if self._lattice is not None:
            found = self._lattice.at_y(self._lattice.of_x(wide(weights)), kernel).to(self._up.dtype)
        else:
            lists = zip(self._each(), self._counted, weights, strict=True)
            found = torch.stack([_at_counted(up, depth, of, own, kernel) for (up, depth, _), of, own in lists])
        return (found if self._mass is None else found * self._mass).masked_fill(~self._counted, 0) * times

    def _each(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Of each list the items that are summed by, those that are counted, and what these count."""
        for place, counted in enumerate(self._counted):
            mass = None if self._mass is None else self._mass[place][counted]
            yield self._up[place], self._depth[place][counted], mass


def _at_counted(up: Tensor, depth: Tensor, counted: Tensor, weights: Tensor, kernel: Kernel) -> Tensor:
    """``(M,)``: of one list, the weighted sum at each that is counted."""
    return weights.new_zeros(counted.shape).masked_scatter(counted, pair_sum(-depth, -up, weights, kernel))


def pulled(
    pairs: HeldPairs | SummedPairs, surely: HeldPairs | SummedPairs | None, weights: Tensor, soft: Softening
) -> tuple[Tensor, Tensor]:
    """Gradients of weighted sums in what is ranked: ``(l, M)`` at each that is counted; ``(l, P)`` at each first, of a
    weight of 1 and in units of the softness.

    Args:
        pairs: whose kernel is summed.
        surely: the same from :data:`metricgrad.functional.leak.START` on, where what is surely wrong keeps a slope.
        weights: ``(l, P)``.
        soft: how.
    """
    steep, times = soft.kernel.derivative(), soft.steepness
    pull, near = pairs.weighted(weights, steep, times), pairs.near(steep)
    if surely is not None:
        pull = pull + LEAK * surely.weighted(weights, SIGMOID, times)
        near = near + LEAK * surely.near(SIGMOID)
    return pull, near
