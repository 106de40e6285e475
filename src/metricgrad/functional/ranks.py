"""Ranks with a gradient, by projection on the permutahedron, and ranks without one."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.functional.permutahedron import equal_runs, on_device, on_host
from metricgrad.precision import wide, wide_dtype

Regularisation = Literal["quadratic", "entropic"]


def soft_rank(x: Tensor, strength: float = 1.0, regularisation: Regularisation = "quadratic") -> Tensor:
    r"""Ranks along the last axis, ascending from 1, differentiable in ``x``.

    With :math:`z = \kappa (x - \bar x) / (\sigma_x \, \mathrm{strength})`, where :math:`\kappa` gives z the spread of
    the ranks at strength 1:

    .. math::
        \text{quadratic:} \quad \arg\min_{r \in P} \|r - z\|^2 \qquad
        \text{entropic:} \quad \arg\min_{r \in P} \mathrm{KL}(r, e^z)

    Use it in a loss that reads ranks. x is standardised inside and the gradient flows through that, so a strength means
    the same for scores of any scale: below 1, evenly spread scores get their hard ranks; the larger it is, the more
    neighbours share a block and have a gradient towards each other; towards infinity all ranks are the mean rank.
    Where scores are so far apart that each is a block of its own, the gradient is zero: raise the strength.
    Not inside transforms of ``torch.func``, nor in forward mode: what they need makes a small call half as dear again.

    Args:
        x: ``(..., n)`` floating point, finite.
        strength: positive; how much scores near each other are blurred.
        regularisation: ``"quadratic"`` is piecewise linear in z. ``"entropic"`` is smoother inside a block, and blurs
            low ranks more than high ones, because it compares ranks by their ratio.

    Returns:
        ``(..., n)`` in the dtype of ``x``; computed in float64 (float32 on MPS). Ranks sum to n (n + 1) / 2, equal
        scores have equal ranks, and a constant row has the rank (n + 1) / 2 with a zero gradient. Differentiable any
        number of times, except where two blocks touch.

        Cost: on the CPU O(n log n) time for the sort and O(n) for the rest, O(n) memory. Elsewhere O(n^2) time in few
        kernels, and the host waits once; memory of 4 million pairs. A spread below 1e-154 of the largest score counts
        as none.

    Raises:
        MetricgradError: for scores that are not finite floats, or settings out of range.

    Example:
        >>> import torch
        >>> soft_rank(torch.tensor([3.0, 1.0, 1.0, 9.0]), strength=0.1)
        tensor([3.0000, 1.5000, 1.5000, 4.0000])

    References:
        M. Blondel, O. Teboul, Q. Berthet, J. Djolonga, "Fast Differentiable Sorting and Ranking", ICML 2020, section
        4. Deviations: x is standardised; ranks ascend; the entropic one is the KL projection on the ranks' own
        permutahedron, as in their code (their equation takes the logarithm of one on that of e^1, ..., e^n, whose ranks
        do not average ties).
    """
    checked_scores(x)
    if not (isinstance(strength, (int, float)) and 0 < strength < math.inf):
        raise MetricgradError(f"strength is {strength!r}; expected a positive number")
    if regularisation not in ("quadratic", "entropic"):
        raise MetricgradError(f"regularisation is {regularisation!r}; expected 'quadratic' or 'entropic'")
    if x.numel() == 0:
        return x.clone()
    project = on_host if x.device.type == "cpu" else on_device
    return project(x, float(strength), regularisation == "quadratic")


def hard_rank(x: Tensor) -> Tensor:
    """Ranks along the last axis, from 1, with the mean rank for equal values.

    Args:
        x: ``(..., n)`` of any real dtype.

    Returns:
        ``(..., n)`` float64 (float32 on MPS), without a gradient. Cost: O(n log n) time, O(n) memory.

    Example:
        >>> import torch
        >>> hard_rank(torch.tensor([10.0, 30.0, 10.0])).tolist()
        [1.5, 3.0, 1.5]
    """
    check_tensor("x", x)
    if x.ndim == 0:
        raise MetricgradError("x is a single number; expected at least one axis to rank along")
    if x.numel() == 0:
        return torch.zeros_like(x, dtype=wide_dtype(x.device))
    ordered, order = x.detach().sort(-1)
    first, last = equal_runs(ordered[..., 1:] != ordered[..., :-1])
    ranks = wide(first + last + 2) / 2
    return torch.zeros_like(ranks).scatter_(-1, order, ranks)


def checked_scores(x: Tensor) -> Tensor:
    """x, if it has an axis to rank along and can have a gradient.

    Raises:
        MetricgradError: otherwise.
    """
    check_tensor("x", x)
    if not x.is_floating_point():
        raise MetricgradError(f"x has dtype {x.dtype}; expected floating point: convert them with .float()")
    if x.ndim == 0:
        raise MetricgradError("x is a single number; expected at least one axis to rank along")
    return x
