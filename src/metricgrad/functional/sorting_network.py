r"""Ranks from a sorting network whose swaps are relaxed: for few scores, where every pair shall have a gradient.

An odd-even network compares neighbours in n layers. Where a hard comparator puts the smaller of (a, b) first, a relaxed
one mixes them with the weight :math:`\alpha = \tfrac12 + \tfrac1\pi \arctan(\beta (b - a))`:
:math:`(\alpha a + (1 - \alpha) b,\; (1 - \alpha) a + \alpha b)`. The arc tangent, a Cauchy distribution, makes the
sorted values non-decreasing in the scores; a logistic one would not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.ranks import checked_scores
from metricgrad.precision import wide

Wires = Tensor | slice
Comparators = tuple[Wires, Wires, Tensor]
"""Of one layer: the first wires, the second wires, and the weight of each straight path."""


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
    values, comparators = _odd_even(x, steepness)
    return expected_places(values, comparators).to(x.dtype)


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
    values, comparators = _odd_even(x, steepness)
    n = x.shape[-1]
    # columns are swapped as rows are: kept transposed, so that the last axis is the one that is sorted
    matrix = torch.eye(n, device=x.device, dtype=values.dtype).expand(*x.shape, n)
    for low, high, weight in comparators:
        matrix = _mixed(matrix, low, high, weight.unsqueeze(-2))
    return matrix.mT.to(x.dtype)


def relaxed(
    values: Tensor, layers: Iterable[tuple[Wires, Wires]], straight: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[Comparators]]:
    """The values that leave a relaxed network, and its comparators, layer by layer.

    Args:
        values: ``(..., n)``.
        layers: the wires compared in each layer, the smaller value going to the first.
        straight: the weight of the straight path, of the second value less the first.
    """
    comparators: list[Comparators] = []
    for low, high in layers:
        weight = straight(values[..., high] - values[..., low])
        comparators.append((low, high, weight))
        values = _mixed(values, low, high, weight)
    return values, comparators


def expected_places(values: Tensor, comparators: Sequence[Comparators]) -> Tensor:
    """Ranks of what entered a network, from 1, in the shape and dtype of the ``values`` that left it."""
    places = torch.arange(1, values.shape[-1] + 1, device=values.device, dtype=values.dtype).expand(values.shape)
    # rank = P^T places; every layer of P is symmetric, so the layers act on the places in reverse
    for low, high, weight in reversed(comparators):
        places = _mixed(places, low, high, weight)
    return places


def _odd_even(x: Tensor, steepness: float) -> tuple[Tensor, list[Comparators]]:
    checked_scores(x)
    if not (isinstance(steepness, (int, float)) and 0 < steepness < math.inf):
        raise MetricgradError(f"steepness is {steepness!r}; expected a positive number")
    centred = wide(x)
    size = centred.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else centred
    centred = centred / torch.where(size > 0, size, 1)
    centred = centred - centred.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    varies = (x != x[..., :1]).any(-1, keepdim=True)
    values = torch.where(varies, centred * torch.where(varies, variance, 1).rsqrt(), 0)
    n = x.shape[-1]
    firsts = (layer % 2 for layer in range(n if n > 1 else 0))
    layers = ((slice(first, n - 1, 2), slice(first + 1, n, 2)) for first in firsts)
    return relaxed(values, layers, lambda apart: (apart * steepness).atan() / math.pi + 0.5)


def _mixed(values: Tensor, low: Wires, high: Wires, weight: Tensor) -> Tensor:
    """One layer: what stands on two wires is mixed, what has no partner passes."""
    crossing = (1 - weight) * (values[..., high] - values[..., low])
    mixed = values.clone()
    mixed[..., low] = values[..., low] + crossing
    mixed[..., high] = values[..., high] - crossing
    return mixed
