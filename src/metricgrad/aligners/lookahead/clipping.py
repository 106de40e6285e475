"""What happened to the gradients between the backward pass and the step, and its transposed Jacobian."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from metricgrad.aligners.lookahead.plain_numbers import Constants
from metricgrad.errors import MetricgradError
from metricgrad.precision import wide

Clipping = Literal["auto", "scale", "norm", "norm_1", "norm_inf", "value"]
CLIPPINGS: tuple[str, ...] = get_args(Clipping)

Gradients = Mapping[Tensor, Tensor]

_ORDERS = {"norm": 2.0, "norm_1": 1.0, "norm_inf": math.inf}
_STABILISER = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


@dataclass(frozen=True)
class _Reading:
    """What a common factor f may mean: f itself is constant, or :math:`f (N + s)` is, for a norm N.

    Attributes:
        order: of the norm; None where the factor is constant.
        over: which further gradients the norm is taken over, besides those with this factor; 0 for none.
        stabiliser: s.
    """

    order: float | None
    over: int = 0
    stabiliser: float = 0.0


def clipping_vjp(
    raw: Gradients,
    seen: Gradients,
    direction: dict[Tensor, Tensor],
    clipping: Clipping,
    constants: Constants | None = None,
    *,
    others: Sequence[Gradients] = (),
    live: Collection[Tensor] = (),
    scales: Sequence[float] = (1.0,),
) -> tuple[dict[Tensor, Tensor], Gradients]:
    r"""A direction in the gradients the optimiser saw, pulled back to those the backward pass left.

    Known by comparing the two are: nothing; entries that were clamped or set to zero; and a common factor f of a group
    of gradients. A factor does not say what it follows from: a constant, which has the Jacobian f, or a norm N of the
    gradients, as :math:`f = M / (N + s)`, which has :math:`f (I - \nabla N\, g^\top / (N + s))`. It is read as the one
    of them whose constant, f or M, stayed while the gradients changed, or else is a plain number
    (:mod:`metricgrad.aligners.lookahead.plain_numbers`). N may be over further gradients, and is read likewise.

    Args:
        raw: as the backward passes left them.
        seen: as the optimiser saw them.
        direction: for the parameters in both.
        clipping: ``"scale"``, ``"norm"`` (the 2-norm), ``"norm_1"`` or ``"norm_inf"`` says what a common factor means,
            ``"value"`` that entries are clamped to a constant; ``"auto"`` decides as above. Where there are no further
            gradients, M may then be any number.
        constants: what was seen in earlier steps.
        others: further gradients as they are now, in sets, any of which a norm may have been taken over too.
        live: those of their parameters whose gradients are of this loss as well.
        scales: what the loss may have been multiplied by before, where the gradients were divided by it again.

    Returns:
        For the same parameters, and for those in ``live`` that a norm was taken over; and the gradients of all these as
        the backward passes left them.

    Raises:
        MetricgradError: where the gradients were changed in another way, or the way cannot be told.
    """
    changed = [p for p in direction if not unchanged(raw[p], seen[p])]
    if not changed:
        return direction, raw
    factors = {p: _factor(raw[p], seen[p]) for p in changed}
    if any(factor is None for factor in factors.values()) or clipping == "value":
        return direction | _by_entry(changed, raw, seen, direction, clipping, constants or Constants()), raw
    vjp, before = dict(direction), dict(raw)
    groups = _groups(changed, {p: f for p, f in factors.items() if f is not None}, raw)
    if len(groups) == 1:  # a gradient of zero is not seen to change, and belongs to the norm all the same
        groups[0] += [p for p in direction if p not in factors and not bool(raw[p].any())]
    for number, group in enumerate(groups):
        common = _Common(group, raw, seen, direction, others, live, scales)
        reading = common.meant(clipping, constants or Constants(), number)
        vjp |= common.vjp(reading)
        before |= common.further(reading)
    return vjp, before


class _Common:
    """A group of gradients that were multiplied by one factor."""

    def __init__(
        self, group: list[Tensor], raw: Gradients, seen: Gradients, direction: Gradients,
        others: Sequence[Gradients], live: Collection[Tensor], scales: Sequence[float],
    ) -> None:  # fmt: skip
        self._group, self._raw, self._direction, self._live = group, raw, direction, live
        flat = [(wide(raw[p]), wide(seen[p])) for p in group]
        self.factor = sum(float((a * b).sum()) for a, b in flat) / sum(float((a * a).sum()) for a, _ in flat)
        own = [raw[p] for p in group]
        sets = [given for given in others if given]
        if len(sets) > 1:
            sets.append({p: gradient for given in sets for p, gradient in given.items()})
        self._further: list[Gradients] = [{}, *({p: g / self.factor for p, g in given.items()} for given in sets)]
        self.norms = {
            (q, over): _norm([*own, *further.values()], q)
            for over, further in enumerate(self._further)
            for q in _ORDERS.values()
        }
        self._stabilisers = (0.0, *(_STABILISER * abs(scale) for scale in dict.fromkeys((1.0, *scales))))
        self._eps = max(torch.finfo(own[0].dtype).eps, 1e-15)

    def meant(self, clipping: Clipping, constants: Constants, number: int) -> _Reading:
        """What the factor follows from."""
        if clipping == "scale":
            return _Reading(None)
        readings = {_Reading(None): self.factor} if clipping == "auto" else {}
        if self.factor > 0:
            orders = _ORDERS.values() if clipping == "auto" else [_ORDERS[clipping]]
            for (q, over), norm in self.norms.items():
                for s in self._stabilisers if q in orders else ():
                    readings[_Reading(q, over, s)] = self.factor * (norm + s)
        keyed = {(number, reading): constant for reading, constant in readings.items()}
        bounds = [key for key in keyed if key[1].order is not None]
        alike = lambda a, b: self._alike(a[1], b[1])  # noqa: E731
        found = constants.told(keyed, self.norms[2.0, 0], self._eps, alike, bounds)
        if found is not None:
            return found[1]
        if clipping != "auto" and len(self._further) == 1:
            return _Reading(_ORDERS[clipping], stabiliser=_STABILISER)
        if clipping != "auto":
            raise MetricgradError(
                f"the gradients were multiplied by {self.factor:.6g} between backward and step, and which of them the "
                f"norm was taken over (clipping={clipping!r}) cannot be told from it: there are further gradients, of "
                "parameters that this optimiser does not hold or this loss does not reach; clip to a plain number, to "
                "the same in each step, or the parameters of the loss and its optimiser alone"
            )
        raise MetricgradError(
            f"the gradients were multiplied by {self.factor:.6g} between backward and step, and whether that number is "
            "a constant or follows from their norm cannot be told from it; say which: LookAhead(clipping='norm') for "
            "clip_grad_norm_ ('norm_1', 'norm_inf' for other norms), 'scale' for a constant"
        )

    def vjp(self, reading: _Reading) -> dict[Tensor, Tensor]:
        """The direction, pulled back."""
        factor = self.factor
        if reading.order is None:
            return {p: self._direction[p] * factor for p in self._group}
        norm = self.norms[reading.order, reading.over]
        inner = sum(float((wide(self._raw[p]) * wide(self._direction[p])).sum()) for p in self._group)
        along = inner / (norm + reading.stabiliser)
        found = {p: _slope(g, reading.order, norm) * (-along * factor) for p, g in self.further(reading).items()}
        return found | {
            p: (self._direction[p] - _slope(self._raw[p], reading.order, norm) * along) * factor for p in self._group
        }

    def further(self, reading: _Reading) -> Gradients:
        """Gradients of this loss that the norm is over as well, as the backward passes left them."""
        return {p: g for p, g in self._further[reading.over].items() if p in self._live}

    def _alike(self, a: _Reading, b: _Reading) -> bool:
        """Whether two readings have the same Jacobian in this direction, up to rounding."""
        x, y = self.vjp(a), self.vjp(b)
        gaps = [x[p] - y[p] if p in x and p in y else (x | y)[p] for p in x | y]
        gap, size = (sum(float(wide(part).square().sum()) for part in parts) ** 0.5 for parts in (gaps, x.values()))
        return gap <= 64 * self._eps * size


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
    """The one factor between the two, other than zero, or None."""
    a, b = wide(raw), wide(seen)
    squared = float((a * a).sum())
    factor = float((a * b).sum()) / squared if squared > 0 else 0.0
    rest = float((b - a * factor).abs().max())
    return factor if factor and rest <= 64 * torch.finfo(raw.dtype).eps * float(b.abs().max()) else None


def _groups(changed: list[Tensor], factors: dict[Tensor, float], raw: Gradients) -> list[list[Tensor]]:
    """Parameters whose factors are equal up to rounding."""
    groups: list[list[Tensor]] = []
    last = 0.0
    for parameter in sorted(changed, key=lambda p: factors[p]):
        factor = factors[parameter]
        if not groups or factor - last > 256 * torch.finfo(raw[parameter].dtype).eps * abs(factor):
            groups.append([])
        groups[-1].append(parameter)
        last = factor
    order = {parameter: place for place, parameter in enumerate(changed)}  # a norm depends on it in its last digit
    return [sorted(group, key=order.__getitem__) for group in groups]


def _by_entry(
    changed: list[Tensor], raw: Gradients, seen: Gradients, direction: dict[Tensor, Tensor], clipping: Clipping,
    constants: Constants,
) -> dict[Tensor, Tensor]:  # fmt: skip
    """Where each entry is as it was, zero, or at one bound: the direction, where it is as it was."""
    kept = {p: raw[p] == seen[p] for p in changed}
    for number, p in enumerate(changed):
        bound, largest = float(seen[p].abs().max()), float(raw[p].abs().max())
        clamped = (seen[p] == raw[p].clamp(-bound, bound)) & (raw[p].abs() >= bound)
        if not bool((kept[p] | (seen[p] == 0) | clamped).all()):
            raise MetricgradError(
                "the gradients were changed between backward and step in a way LookAhead does not know: it knows "
                "torch.nn.utils.clip_grad_norm_, clip_grad_value_ (one of them a step), a common factor and entries "
                "set to zero; drop the other change, or take another aligner"
            )
        held = bool((clamped & ~kept[p] & (seen[p] != 0)).any())
        if clipping == "auto" and held and not _is_constant(bound, largest, raw[p], number, constants):
            raise MetricgradError(
                f"the gradients were clamped to {bound:.6g} between backward and step, and whether that number is a "
                "constant or follows from the gradients cannot be told from it; say LookAhead(clipping='value') for a "
                "constant"
            )
    return {p: direction[p] * kept[p] for p in changed}


def _is_constant(bound: float, largest: float, raw: Tensor, number: int, constants: Constants) -> bool:
    eps = max(torch.finfo(raw.dtype).eps, 1e-15)
    readings = {(number, "bound"): bound, (number, "share"): bound / largest}
    return constants.told(readings, largest, eps, lambda a, b: a == b, readings) == (number, "bound")


def _norm(tensors: Sequence[Tensor], order: float) -> float:
    """As ``clip_grad_norm_`` takes it, to the last digit."""
    return float(torch.nn.utils.get_total_norm(list(tensors), order))


def _slope(gradient: Tensor, order: float, norm: float) -> Tensor:
    """The derivative of the norm over all gradients in this one."""
    if order == 1.0:
        return gradient.sign()
    if order == 2.0:
        return gradient / norm
    return gradient.sign() * (gradient.abs() == norm)
