"""What happened to the gradients between the backward pass and the step, and its transposed Jacobian."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metricgrad.aligners.trace import Trace
from metricgrad.errors import MetricgradError

Clipping = Literal["auto", "norm", "scale"]

_STABILISER = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


def through(
    traces: dict[Tensor, Trace], seen: dict[Tensor, Tensor], direction: dict[Tensor, Tensor], clipping: Clipping
) -> dict[Tensor, Tensor]:
    r"""A direction in the gradients the optimiser saw, pulled back to those the backward pass left.

    Three things are recognised by comparing the two: nothing; a clipped norm, which multiplies all gradients of a
    group by one factor :math:`f = M / (\|g\| + 10^{-6})` and has the Jacobian
    :math:`f (I - \hat g \hat g^\top \|g\| / (\|g\| + 10^{-6}))`; and clipped values. Parameters that share a factor are
    one group.

    A factor alone does not say whether it follows from the norm. It is taken to be a plain scale where it is above 1,
    or one over a whole number (gradients divided by hand), unless the norm it leaves is the rounder number.

    Args:
        traces: of the gradients as the backward passes left them.
        seen: as the optimiser saw them.
        direction: for the parameters in both.
        clipping: ``"norm"`` or ``"scale"`` says what a common factor means; ``"auto"`` decides as above.

    Returns:
        For the same parameters.

    Raises:
        MetricgradError: where the gradients were changed in another way.
    """
    changed = [p for p in direction if not traces[p].is_of(seen[p])]
    if not changed:
        return direction
    found = {p: traces[p].factor_to(seen[p]) for p in changed}
    factors = {p: factor for p, factor in found.items() if factor is not None}
    if len(factors) < len(found):
        return direction | _by_value(changed, traces, seen, direction)
    pulled = dict(direction)
    groups = _groups(factors)
    if len(groups) == 1:  # a gradient of zero is not seen to change, and belongs to the norm all the same
        groups[0] += [p for p in direction if p not in factors and not traces[p].norm]
    for group in groups:
        weights = {p: traces[p].norm for p in group if p in factors}
        factor = sum(factors[p] * weight for p, weight in weights.items()) / sum(weights.values())
        norm = _norm([seen[p] for p in group]) / factor if factor else 0.0
        if clipping == "scale" or (clipping == "auto" and _is_scale(factor, norm, seen[group[0]].dtype)):
            pulled |= {p: direction[p] * factor for p in group}
            continue
        # the gradient before was the one that is seen, over the factor
        inner = sum(float((seen[p].double() * direction[p].double()).sum()) for p in group)
        along = inner / factor / (norm * (norm + _STABILISER)) if factor else 0.0
        for p in group:
            pulled[p] = (direction[p].double() * factor).sub_(seen[p].double() * along).to(direction[p].dtype)
    return pulled


def _groups(factors: dict[Tensor, float]) -> list[list[Tensor]]:
    """Parameters whose factors are equal up to rounding."""
    groups: list[list[Tensor]] = []
    last = 0.0
    for parameter in sorted(factors, key=lambda p: factors[p]):
        factor = factors[parameter]
        if not groups or factor - last > 256 * torch.finfo(parameter.dtype).eps * factor:
            groups.append([])
        groups[-1].append(parameter)
        last = factor
    return groups


def _is_scale(factor: float, norm: float, dtype: torch.dtype) -> bool:
    if factor > 1:
        return True
    tolerance = 64 * torch.finfo(dtype).eps
    bound = factor * (norm + _STABILISER)
    rounded = float(f"{bound:.3g}")
    if abs(bound - rounded) <= tolerance * bound:
        return False
    return factor > 0 and abs(1 / factor - round(1 / factor)) <= tolerance / factor


def _by_value(
    changed: list[Tensor], traces: dict[Tensor, Trace], seen: dict[Tensor, Tensor], direction: dict[Tensor, Tensor]
) -> dict[Tensor, Tensor]:
    bound = max(float(seen[p].abs().max()) for p in changed)
    if not all(traces[p].was_clamped(seen[p], bound) for p in changed):
        raise MetricgradError(
            "the gradients were changed between backward and step in a way LookAhead does not know: it knows "
            "torch.nn.utils.clip_grad_norm_, clip_grad_value_ (one of them a step) and a common factor; drop the other "
            "change, or take another aligner"
        )
    return {p: direction[p] * (seen[p].abs() < bound) for p in changed}


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.double().norm() for t in tensors]).norm())
