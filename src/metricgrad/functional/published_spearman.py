r"""Spearman's correlation as ReLoss's released code computes it, with what goes wrong there: for comparison.

Soft ranks are places in a bitonic sorting network whose comparators mix (a, b) into
:math:`(\alpha a + (1 - \alpha) b,\; (1 - \alpha) a + \alpha b)` with the weight
:math:`\alpha = \sigma(\beta d / |d|^\lambda)`, d = b - a. A logistic weight lets a sorted value fall where an input
rises, ranks leave the order of what they rank, and nothing is standardised, so the scale of x decides how soft they
are. Hard ranks break ties by position.
:func:`metricgrad.functional.spearman`, with ranks by projection and mean ranks for ties, has none of this.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metricgrad.functional.sorting_network import expected_places, relaxed
from metricgrad.precision import wide

_STEEPNESS = 5.0
_LAMBDA = 0.25
_LEAST = 1e-10


def published_spearman(a: Tensor, b: Tensor, *, soft: bool) -> Tensor:
    """Correlation of the ranks along the last axis, as released.

    Use it to see what its ranks do; :func:`metricgrad.functional.spearman` to measure or to fit.

    Args:
        a: ``(..., n)`` floating point.
        b: ``(..., n)`` any real dtype. Nothing flows to it.
        soft: whether the ranks of ``a`` are those of :func:`bitonic_sort`, with a gradient; else :func:`place_rank`.

    Returns:
        ``(...)`` float64 (float32 on MPS), never NaN: hard, a constant side has the ranks 1 to n.

        Cost: O(n log^2 n) time and memory.

    Example:
        >>> import torch
        >>> constant, tied = torch.zeros(4), torch.tensor([0, 0, 0, 1])
        >>> float(published_spearman(constant, tied, soft=False))
        1.0

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, released code.
    """
    ranks = bitonic_sort(a)[1] if soft else place_rank(a)
    x, y = (side - side.mean(-1, keepdim=True) for side in (ranks, place_rank(b)))
    return (x * y).mean(-1) / (x.square().mean(-1) * y.square().mean(-1)).sqrt().clamp(min=_LEAST)


def place_rank(x: Tensor) -> Tensor:
    """Hard ranks along the last axis, ascending from 1; equal values are ranked by position.

    Example:
        >>> import torch
        >>> place_rank(torch.tensor([10.0, 30.0, 10.0])).tolist()
        [1.0, 3.0, 2.0]
    """
    return wide(x.detach().argsort(dim=-1, stable=True).argsort(dim=-1) + 1)


def bitonic_sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """Relaxed sorted values, and the expected place of each score, of a bitonic network with logistic comparators.

    Args:
        x: ``(..., n)`` floating point, as it is: at steepness 5, scores 1 apart are nearly sorted, 0.01 apart hardly.

    Returns:
        ``(..., n)`` values, ascending where x is spread widely, and ``(..., n)`` ranks from 1 in the order of x, both
        in float64 (float32 on MPS).

    Example:
        >>> import torch
        >>> bitonic_sort(torch.tensor([30.0, 10.0, 20.0]))[1].round(decimals=2).tolist()
        [3.0, 1.0, 2.0]

    References:
        The weight: F. Petersen, C. Borgelt, H. Kuehne, O. Deussen, "Differentiable Sorting Networks for Scalable
        Sorting and Ranking Supervision", ICML 2021. Deviation: any n, by comparators whose partner is missing passing
        the score on; a power of two is needed there.
    """
    values = wide(x)
    values, comparators = relaxed(values, _bitonic(x.shape[-1], x.device), _straight)
    return values, expected_places(values, comparators)


def _straight(apart: Tensor) -> Tensor:
    return torch.sigmoid(_STEEPNESS * apart / (apart.abs() + _LEAST) ** _LAMBDA)


def _bitonic(n: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Layer by layer the wires compared, the smaller score going to the first; a merge begins with a mirrored layer."""
    wires = torch.arange(n)
    size = 2
    while size < 2 * n:
        mirrored = wires + size - 1 - 2 * (wires % size)
        first = wires[(wires < mirrored) & (mirrored < n)]
        yield first.to(device), mirrored[first].to(device)
        gap = size // 4
        while gap:
            first = wires[(wires % (2 * gap) < gap) & (wires + gap < n)]
            yield first.to(device), (first + gap).to(device)
            gap //= 2
        size *= 2
