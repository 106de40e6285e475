r"""Ranks from a sorting network whose swaps are relaxed: for few scores, where every pair shall have a gradient.

An odd-even network compares neighbours in n layers. Where a hard comparator puts the smaller of (a, b) first, a relaxed
one mixes them with the weight :math:`\alpha = \tfrac12 + \tfrac1\pi \arctan(\beta (b - a))`:
:math:`(\alpha a + (1 - \alpha) b,\; (1 - \alpha) a + \alpha b)`. The arc tangent, a Cauchy distribution, makes the
sorted values non-decreasing in the scores; a logistic one would not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.pair_sums import compute_dtype
from metricgrad.functional.ranks import checked_scores


def soft_rank_network(x: Tensor, steepness: float = 10.0) -> Tensor:
    r"""Ranks along the last axis, ascending from 1: the expected place of each score in a relaxed sorting network.

    Use it for up to about a hundred scores, where :func:`metricgrad.functional.soft_rank` gives no gradient to scores
    that stand apart: here every score has one. Not for scores with ties: a network treats neighbours by their place, so
    equal scores get ranks that depend on their order.

    Args:
        x: ``(..., n)`` floating point, finite; standardised inside, so that a steepness means the same at any scale.
        steepness: positive; :math:`\beta` of standardised scores. Hard ranks as it grows.

    Returns:
        ``(..., n)`` in the dtype of ``x``; they sum to n (n + 1) / 2. Differentiable any number of times. A constant
        row has a zero gradient.

        Cost: O(n^2) time and memory, in 2 n steps one after the other.

    Raises:
        MetricgradError: for scores that are not floats, or a steepness out of range.

    Example:
        >>> import torch
        >>> soft_rank_network(torch.tensor([30.0, 10.0, 20.0]), steepness=1e4).round(decimals=2)
        tensor([3., 1., 2.])

    References:
        F. Petersen, C. Borgelt, H. Kuehne, O. Deussen, "Monotonic Differentiable Sorting Networks", ICLR 2022
        (f_C, odd-even). Deviation: x is standardised.
    """
    weights = _layers(x, steepness)
    n = x.shape[-1]
    places = torch.arange(1, n + 1, device=x.device, dtype=compute_dtype(x)).expand(x.shape)
    # rank = P^T places; every layer of P is symmetric, so the layers act on the places in reverse
    for number in reversed(range(len(weights))):
        places = _swapped(places, weights[number], number % 2)
    return places.to(x.dtype)


def relaxed_permutation(x: Tensor, steepness: float = 10.0) -> Tensor:
    """The doubly stochastic matrix of the relaxed network: row k says which score stands at place k.

    Args:
        x: ``(..., n)``, as in :func:`soft_rank_network`.
        steepness: as there.

    Returns:
        ``(..., n, n)`` in the dtype of ``x``. Cost: O(n^3) time and memory for the gradient.

    Example:
        >>> import torch
        >>> relaxed_permutation(torch.tensor([2.0, 1.0]), steepness=1e4).round(decimals=2)
        tensor([[0., 1.],
                [1., 0.]])
    """
    weights = _layers(x, steepness)
    n = x.shape[-1]
    # columns are swapped as rows are: kept transposed, so that the last axis is the one that is sorted
    matrix = torch.eye(n, device=x.device, dtype=compute_dtype(x)).expand(*x.shape, n)
    for number, weight in enumerate(weights):
        matrix = _swapped(matrix, weight.unsqueeze(-2), number % 2)
    return matrix.mT.to(x.dtype)


def _layers(x: Tensor, steepness: float) -> list[Tensor]:
    """The weight of each comparator's straight path, layer by layer."""
    checked_scores(x)
    if not (isinstance(steepness, (int, float)) and 0 < steepness < math.inf):
        raise MetricgradError(f"steepness is {steepness!r}; expected a positive number")
    centred = x.to(compute_dtype(x))
    size = centred.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else centred
    centred = centred / torch.where(size > 0, size, 1)
    centred = centred - centred.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    varies = (x != x[..., :1]).any(-1, keepdim=True)
    values = torch.where(varies, centred * torch.where(varies, variance, 1).rsqrt(), 0)
    found = []
    for number in range(x.shape[-1] if x.shape[-1] > 1 else 0):
        a, b = _pairs(values, number % 2).unbind(-1)
        found.append(((b - a) * steepness).atan() / math.pi + 0.5)
        values = _swapped(values, found[-1], number % 2)
    return found


def _pairs(values: Tensor, offset: int) -> Tensor:
    count = (values.shape[-1] - offset) // 2
    return values[..., offset : offset + 2 * count].unflatten(-1, (count, 2))


def _swapped(values: Tensor, weight: Tensor, offset: int) -> Tensor:
    """One layer: neighbours from ``offset`` on are mixed, what has no partner passes."""
    pairs = _pairs(values, offset)
    a, b = pairs.unbind(-1)
    mixed = torch.stack([weight * a + (1 - weight) * b, (1 - weight) * a + weight * b], -1).flatten(-2)
    return torch.cat([values[..., :offset], mixed, values[..., offset + mixed.shape[-1] :]], -1)
