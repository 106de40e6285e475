"""Isotonic regression's blocks: which neighbours a non-decreasing fit pools, found without a loop over the items.

Pool-adjacent-violators merges a block into its right neighbour while the neighbour lies lower. The blocks it ends with do
not depend on the order of the merges: in the plane of running sums they are the edges of a convex hull, and an item
below which a chord of two others passes can never be a corner of it. So all violators are merged at once, round by round,
in NumPy. Rounds that find few violators cost as much as those that find many, so from there on each place that is
left is merged one block at a time, and what is already in order is not visited again.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["mean", "log_ratio"]

FEW = 32
"""A round that merges fewer blocks than this, and a 64th of them, is the last one over all blocks."""


def isotonic_starts(upper: NDArray[np.float64], lower: NDArray[np.float64], length: int, level: Level) -> NDArray[np.intp]:
    r"""Where the blocks of a non-decreasing fit start.

    A block :math:`B` has the level :math:`\sum_B u_i / \sum_B l_i` (``"mean"``: least squares of u / l with weights l) or
    :math:`\log \sum_B e^{u_i} - \log \sum_B l_i` (``"log_ratio"``: the same of :math:`e^u`, without overflow), and
    levels never fall from one block to the next.

    Args:
        upper: ``(B * length,)`` float64, finite; rows of independent problems one after the other.
        lower: ``(B * length,)`` float64, positive.
        length: of a row.
        level: how a block's level follows from its sums.

    Returns:
        Ascending indices into the flat input; each row's first is one of them. Neighbours at one level stay apart.

        Cost: O(N) memory. O(N) time but for the rounds over all blocks, each of which merges at least a 64th of them.

    Example:
        >>> isotonic_starts(np.array([1.0, 3.0, 2.0, 2.5, 4.0]), np.ones(5), 5, "mean").tolist()
        [0, 1, 4]
    """
    starts = np.arange(len(upper))
    head = np.zeros(len(upper), dtype=bool)
    head[::length] = True
    add = np.add if level == "mean" else np.logaddexp
    while True:
        height = upper / lower if level == "mean" else upper - np.log(lower)
        kept = head.copy()
        kept[1:] |= height[:-1] <= height[1:]
        found = np.flatnonzero(kept)
        merged = len(kept) - len(found)
        if merged == 0:
            return starts
        if merged < max(FEW, len(kept) // 64):
            return starts[_merge_one_by_one(upper, lower, height, head, kept, level)]
        starts, head = starts[found], head[found]
        upper, lower = add.reduceat(upper, found), np.add.reduceat(lower, found)


def _merge_one_by_one(
    upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    height: NDArray[np.float64],
    head: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    level: Level,
) -> NDArray[np.bool_]:
    """Which blocks still start where they did, once each place where the level falls is mended; O(merges)."""
    join, height_of = (_add, _ratio) if level == "mean" else (_log_add, _log_ratio)
    up, low, raw, is_head = upper.item, lower.item, height.item, head.item
    count = len(upper)
    done: list[tuple[int, int, float, float]] = []
    for place in np.flatnonzero(~kept).tolist():
        if done and place <= done[-1][1]:
            continue
        first, last, u, w = place, place + 1, up(place), low(place)
        here, moved = raw(place), True
        while moved:
            moved = False
            while not is_head(first):
                if done and done[-1][1] == first:
                    before, _, more_u, more_w = done[-1]
                    left = height_of(more_u, more_w)
                else:
                    before, more_u, more_w, left = first - 1, up(first - 1), low(first - 1), raw(first - 1)
                if left <= here:
                    break
                if done and done[-1][1] == first:
                    done.pop()
                first, u, w, moved = before, join(u, more_u), w + more_w, True
                here = height_of(u, w)
            while last < count and not is_head(last) and raw(last) < here:
                u, w, last, moved = join(u, up(last)), w + low(last), last + 1, True
                here = height_of(u, w)
        done.append((first, last, u, w))
    stays = np.ones(count, dtype=bool)
    for first, last, _, _ in done:
        stays[first + 1 : last] = False
    return stays


def _add(a: float, b: float) -> float:
    return a + b


def _log_add(a: float, b: float) -> float:
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def _ratio(upper: float, lower: float) -> float:
    return upper / lower


def _log_ratio(upper: float, lower: float) -> float:
    return upper - math.log(lower)
