"""Isotonic regression's blocks: which neighbours a non-decreasing fit pools, found without a loop over the items.

Pool-adjacent-violators merges a block with its right neighbour while the neighbour lies lower. The blocks it ends with
do not depend on the order of the merges: in the plane of running sums they are the edges of a convex hull, and an item
below which a chord of two others passes is never a corner of it. So all violators are merged at once, round by round,
in NumPy. A round that finds few violators costs as much as one that finds many, so from there on only the places left
are visited; where a long stretch has to merge at one of them, its ends are searched for, not walked to.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FEW = 16
_PATIENCE = 8


def mean_starts(values: Floats, length: int) -> NDArray[np.intp]:
    r"""Where the blocks of the non-decreasing least-squares fit start: a block's level is its mean.

    Args:
        values: ``(B * length,)`` float64, finite; rows of independent problems one after the other, each best centred:
            the error of a level is that of a running sum, about 1e-16 of its largest magnitude.
        length: of a row.

    Returns:
        Ascending indices into the flat input; each row's first is one of them. Neighbours at one level stay apart.

        Cost: O(N) memory. Time: a round over m blocks takes O(m) and merges at least a 64th of them, so all rounds take
        O(N); what they leave takes O(1) a merge, or O(m log m) for a place at which many blocks have to merge.

    Example:
        >>> mean_starts(np.array([1.0, 3.0, 2.0, 2.5, 4.0]), 5).tolist()
        [0, 1, 3, 4]
    """
    starts, height, inner, running = np.arange(len(values) + 1), values, _inner(values, length), None
    while True:
        falls, few = _falls(height, inner)
        if few:
            lower = np.subtract(starts[1:], starts[:-1], dtype=np.float64)
            return starts[:-1][_merge_the_rest(_Means(height * lower, lower), height, inner, falls)]
        if running is None:
            running = np.zeros(len(values) + 1)
            np.cumsum(values, out=running[1:])
        found = (~falls).nonzero()[0]
        starts, inner = np.concatenate((starts[found], starts[-1:])), inner[found]
        sums = running[starts]
        height = (sums[1:] - sums[:-1]) / (starts[1:] - starts[:-1])


def log_ratio_starts(upper: Floats, lower: Floats, length: int) -> NDArray[np.intp]:
    r"""The same for blocks whose level is :math:`\log \sum_B e^{u_i} - \log \sum_B l_i`.

    These are the blocks of the weighted least-squares fit of :math:`e^u / l`, without the overflow.

    Args:
        upper: ``(B * length,)`` float64, finite.
        lower: ``(B * length,)`` float64, positive.
        length: of a row.

    Returns:
        As :func:`mean_starts`, at the same cost.

    Example:
        >>> log_ratio_starts(np.array([1.0, 800.0, 800.0]), np.array([1.0, 2.0, 3.0]), 3).tolist()
        [0, 1]
    """
    starts, inner = np.arange(len(upper)), _inner(upper, length)
    while True:
        height = upper - np.log(lower)
        falls, few = _falls(height, inner)
        if few:
            return starts[_merge_the_rest(_LogRatios(upper, lower), height, inner, falls)]
        found = (~falls).nonzero()[0]
        starts, inner = starts[found], inner[found]
        upper, lower = np.logaddexp.reduceat(upper, found), np.add.reduceat(lower, found)


def _inner(values: Floats, length: int) -> Flags:
    """Which items have a left neighbour in their row."""
    inner = np.ones(len(values), dtype=bool)
    inner[::length] = False
    return inner


def _falls(height: Floats, inner: Flags) -> tuple[Flags, bool]:
    """Which blocks lie below their left neighbour, and whether they are too few for a round over all."""
    falls = inner.copy()
    falls[1:] &= height[1:] < height[:-1]
    return falls, bool(np.count_nonzero(falls) < max(_FEW, len(falls) // 64))


class _Means:
    """Blocks whose level is upper / lower."""

    def __init__(self, upper: Floats, lower: Floats) -> None:
        self.upper, self.lower = upper.cumsum(), lower.cumsum()
        self.up, self.low = upper.item, lower.item
        self.running_upper, self.running_lower = self.upper.item, self.lower.item

    @staticmethod
    def join(a: float, b: float) -> float:
        """Upper of two blocks as one."""
        return a + b

    @staticmethod
    def level(upper: float, lower: float) -> float:
        """Of one block."""
        return upper / lower

    def sums(self, first: int, last: int) -> tuple[float, float]:
        """Upper and lower of blocks first, ..., last - 1 as one."""
        upper, lower = self.running_upper, self.running_lower
        if first == 0:
            return upper(last - 1), lower(last - 1)
        return upper(last - 1) - upper(first - 1), lower(last - 1) - lower(first - 1)


class _LogRatios:
    """Blocks whose level is upper - log(lower), upper being the logarithm of a sum."""

    def __init__(self, upper: Floats, lower: Floats) -> None:
        self.upper, self.lower = upper, lower
        self.up, self.low = upper.item, lower.item

    @staticmethod
    def join(a: float, b: float) -> float:
        """Upper of two blocks as one."""
        return max(a, b) + math.log1p(math.exp(-abs(a - b)))

    @staticmethod
    def level(upper: float, lower: float) -> float:
        """Of one block."""
        return upper - math.log(lower)

    def sums(self, first: int, last: int) -> tuple[float, float]:
        """Upper and lower of blocks first, ..., last - 1 as one; O(last - first)."""
        part = self.upper[first:last]
        peak = part.max()
        return float(peak + np.log(np.exp(part - peak).sum())), float(self.lower[first:last].sum())


def _merge_the_rest(blocks: _Means | _LogRatios, height: Floats, inner: Flags, falls: Flags) -> Flags:
    """Which blocks still start where they did, once each place where the level falls is mended, from left to right."""
    join, level, up, low, raw = blocks.join, blocks.level, blocks.up, blocks.low, height.item
    found, heads = falls.nonzero()[0], (~inner).nonzero()[0]
    row = heads.searchsorted(found)
    begins, ends = heads[row - 1].tolist(), np.concatenate((heads, [len(inner)]))[row].tolist()
    places = found.tolist()
    done: list[tuple[int, int, float, float, float]] = []
    for place, begin, end in zip(places, begins, ends, strict=True):
        if done and place <= done[-1][1]:
            continue
        first, last, u, w, here, patience = place, place + 1, up(place), low(place), raw(place), _PATIENCE
        while True:
            if first > begin and done and done[-1][1] == first:
                if done[-1][4] > here:
                    first, _, more_u, more_w, _ = done.pop()
                    u, w = join(u, more_u), w + more_w
                    here = level(u, w)
                    continue
            elif first > begin and raw(first - 1) > here:
                first -= 1
                u, w = join(u, up(first)), w + low(first)
                here = level(u, w)
                patience -= 1
                if patience:
                    continue
            if last < end and raw(last) < here:
                u, w = join(u, up(last)), w + low(last)
                here = level(u, w)
                last += 1
                patience -= 1
            elif patience > 0:
                break
            if patience <= 0:
                # many more may follow: as far as what is merged already or falls next, levels rise on both sides
                floor = max(begin, done[-1][1]) if done else begin
                fall = bisect_right(places, last)
                ceiling = min(end, places[fall]) if fall < len(places) else end
                first, last = _bridge(blocks, height, (floor, first, last, ceiling))
                u, w = blocks.sums(first, last)
                here, patience = level(u, w), _PATIENCE
        done.append((first, last, u, w, here))
    stays = np.ones(len(inner), dtype=bool)
    for first, last, *_ in done:
        stays[first + 1 : last] = False
    return stays


def _bridge(blocks: _Means | _LogRatios, height: Floats, at: tuple[int, int, int, int]) -> tuple[int, int]:
    """How far a block spreads over rising neighbours: to where its level lies between theirs.

    A guess of the level says which neighbours are on its wrong side; the level with these merged is the next guess, as
    long as it lies within what is known to hold the solution.
    """
    floor, first, last, ceiling = at
    left, right = height[floor:first], height[last:ceiling]
    lowest, highest, guess = -math.inf, math.inf, blocks.level(*blocks.sums(first, last))
    while True:
        i = floor + int(left.searchsorted(guess, "right"))
        j = last + int(right.searchsorted(guess, "left"))
        found = blocks.level(*blocks.sums(i, j))
        if found > guess:
            lowest = guess
        elif found < guess:
            highest = guess
        else:
            return i, j
        guess = found if lowest < found < highest else (lowest + highest) / 2
        if not lowest < guess < highest:
            return i, j
