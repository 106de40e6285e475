"""Interpolation of a metric between configurations of its binaries."""

from __future__ import annotations

from torch import Tensor


def local_linear(current: Tensor, values: Tensor, mass: Tensor) -> Tensor:
    r"""First-order expansion of the metric around the current decisions.

    .. math:: \tilde g = g + \sum_m \pi_m \, (g_m - g)

    with :math:`\pi_m` the soft amount of move m already made. For single flips of independent binaries this is the
    expected metric to first order when each binary is flipped with the probability that its sigmoid gives to the
    other side.

    Args:
        current: 0-d, the metric at the current scores.
        values: ``(M,)``, the metric after each move.
        mass: ``(M,)``, differentiable.

    Returns:
        0-d. Cost: O(M).
    """
    return current + (mass * (values - current)).sum()
