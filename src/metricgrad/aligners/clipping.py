"""What happened to the gradients between the backward pass and the step, and its transposed Jacobian."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

Clipping = Literal["auto", "norm", "scale"]

_STABILISER = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


def through(
    raw: dict[Tensor, Tensor], seen: dict[Tensor, Tensor], direction: dict[Tensor, Tensor], clipping: Clipping
) -> dict[Tensor, Tensor]:
    r"""A direction in the gradients the optimiser saw, pulled back to those the backward pass left.

    Three things are recognised by comparing the two: nothing; a clipped norm, which multiplies all gradients of a
    group by one factor :math:`f = M / (\|g\| + 10^{-6})` and has the Jacobian
    :math:`f (I - \hat g \hat g^\top \|g\| / (\|g\| + 10^{-6}))`; and clipped values. Parameters that share a factor are
    one group.

    A factor alone does not say whether it follows from the norm. It is taken to be a plain scale where it is above 1,
    or one over a whole number (gradients divided by hand), unless the norm it leaves is the rounder number.

    Args:
        raw: as the backward passes left them.
        seen: as the optimiser saw them.
        direction: for the parameters in both.
        clipping: ``"norm"`` or ``"scale"`` says what a common factor means; ``"auto"`` decides as above.

    Returns:
        For the same parameters.

    Raises:
        MetricgradError: where the gradients were changed in another way.
    """
    changed = [p for p in direction if not unchanged(raw[p], seen[p])]
    if not changed:
        return direction
    factors = {p: _factor(raw[p], seen[p]) for p in changed}
    if any(factor is None for factor in factors.values()):
        return direction | _by_value(changed, raw, seen, direction)
    pulled = dict(direction)
    groups = _groups(changed, factors, raw)
    if len(groups) == 1:  # a gradient of zero is not seen to change, and belongs to the norm all the same
        groups[0] += [p for p in direction if p not in factors and not bool(raw[p].any())]
    for group in groups:
        norm = _norm([raw[p] for p in group])
        factor = _ratio(_norm([seen[p] for p in group]), norm)
        if clipping == "scale" or (clipping == "auto" and _is_scale(factor, norm, raw[group[0]].dtype)):
            pulled |= {p: direction[p] * factor for p in group}
            continue
        inner = sum(float((raw[p].double() * direction[p].double()).sum()) for p in group)
        along = inner / (norm * (norm + _STABILISER))
        pulled |= {p: (direction[p] - raw[p] * along) * factor for p in group}
    return pulled


def unchanged(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients are one, NaN included; words of eight bytes, where they fit, go four times as fast."""
    words = [tensor.flatten().view(torch.int64) for tensor in (a, b) if _in_words(tensor)]
    if len(words) == 2 and torch.equal(*words):
        return True
    return bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


def _in_words(tensor: Tensor) -> bool:
    size = tensor.element_size()
    return tensor.is_contiguous() and tensor.numel() * size % 8 == 0 and tensor.storage_offset() * size % 8 == 0


def _factor(raw: Tensor, seen: Tensor) -> float | None:
    """The one factor between the two, or None."""
    factor = _ratio(_norm([seen]), _norm([raw]))
    tolerance = 64 * torch.finfo(raw.dtype).eps
    rest = float((seen - raw * factor).abs().max())
    return factor if rest <= tolerance * float(seen.abs().max()) else None


def _groups(
    changed: list[Tensor], factors: dict[Tensor, float | None], raw: dict[Tensor, Tensor]
) -> list[list[Tensor]]:
    """Parameters whose factors are equal up to rounding."""
    groups: list[list[Tensor]] = []
    last = 0.0
    for parameter in sorted(changed, key=lambda p: factors[p] or 0.0):
        factor = factors[parameter] or 0.0
        if not groups or factor - last > 256 * torch.finfo(raw[parameter].dtype).eps * factor:
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
    return abs(1 / factor - round(1 / factor)) <= tolerance / factor


def _by_value(
    changed: list[Tensor], raw: dict[Tensor, Tensor], seen: dict[Tensor, Tensor], direction: dict[Tensor, Tensor]
) -> dict[Tensor, Tensor]:
    bound = max(float(seen[p].abs().max()) for p in changed)
    if any(not torch.equal(raw[p].clamp(-bound, bound), seen[p]) for p in changed):
        raise MetricgradError(
            "the gradients were changed between backward and step in a way LookAhead does not know: it knows "
            "torch.nn.utils.clip_grad_norm_, clip_grad_value_ (one of them a step) and a common factor; drop the other "
            "change, or take another aligner"
        )
    return {p: direction[p] * (raw[p].abs() <= bound) for p in changed}


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.double().norm() for t in tensors]).norm())


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0
