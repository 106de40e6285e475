"""Isotonic regression's blocks where the host shall not wait: every corner of a convex hull is told at once.

In the plane of running sums the levels of blocks are slopes. A block starts at a place exactly where no block that ends
there lies above one that starts there, so that each place is told by a maximum and a minimum over all others, in a
handful of kernels. On the CPU :mod:`metricgrad.functional.isotonic` takes the time of a sort.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

_PAIRS = 2**22


def mean_corners(values: Tensor) -> Tensor:
    r"""Where the blocks of the non-decreasing least-squares fit start: a block's level is its mean.

    Args:
        values: ``(..., n)`` floating point, finite, n > 0; each row best centred.

    Returns:
        ``(..., n)`` booleans, the first of each row true. Neighbours at one level stay apart.

        Cost: O(n^2) time, memory of 4 million pairs; the host does not wait.

    Example:
        >>> mean_corners(torch.tensor([1.0, 3.0, 2.0, 2.5, 4.0])).tolist()
        [True, True, False, True, True]
    """
    sums = pad(values.cumsum(-1), (1, 0))

    def level(here: Tensor, apart: Tensor) -> Tensor:
        return (sums[..., here, None] - sums[..., None, :]) / apart

    return _corners(values, level)


def log_ratio_corners(upper: Tensor, lower: Tensor) -> Tensor:
    r"""The same for blocks whose level is :math:`\log \sum_B e^{u_i} - \log \sum_B l_i`.

    Args:
        upper: ``(..., n)`` floating point, finite, ascending: a sum is a difference of two running ones.
        lower: ``(n,)`` positive.

    Returns:
        As :func:`mean_corners`, at the same cost.

    Example:
        >>> log_ratio_corners(torch.tensor([1.0, 800.0, 800.0]), torch.tensor([1.0, 2.0, 3.0])).tolist()
        [True, True, False]
    """
    sums = pad(upper.logcumsumexp(-1), (1, 0), value=-torch.inf)
    weights = pad(lower.cumsum(-1), (1, 0))

    def level(here: Tensor, apart: Tensor) -> Tensor:
        one, other = sums[..., here, None], sums[..., None, :]
        high = torch.maximum(one, other)
        size = (-torch.expm1(torch.minimum(one, other) - high)).log()
        return high + size - (weights[here, None] - weights).abs().log()

    return _corners(upper, level)


def _corners(values: Tensor, level: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``level(places, apart)``: of the blocks between (r,) places and all n + 1, (..., r, n + 1)."""
    n = values.shape[-1]
    ends = torch.arange(n + 1, device=values.device)
    found = [torch.ones_like(values[..., :1], dtype=torch.bool)]
    for places in ends[1:n].split(max(1, _PAIRS // (values.numel() // n * (n + 1) + 1))):
        apart = places[:, None] - ends
        levels = level(places, apart)
        before = torch.where(apart > 0, levels, -torch.inf).amax(-1)
        found.append(before <= torch.where(apart < 0, levels, torch.inf).amin(-1))
    return torch.cat(found, -1)
