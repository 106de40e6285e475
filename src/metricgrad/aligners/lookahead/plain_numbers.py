"""Numbers that a user wrote, told from numbers that were computed, such as a power of the loss's own value."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

import torch
from torch import Tensor

from metricgrad.aligners.lookahead.history import SkippedStepError
from metricgrad.on_host import read

_TOLERANCE = 6.0  # roundings
_FIRST, _LATER = 2e-3, 2e-4
_FAR = 30.0
_KEPT = 16
_POWERS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)

Key = TypeVar("Key", bound=Hashable)


def of_bound(number: float, eps: float) -> float:
    """How likely a number that nobody wrote would be a decimal of as few digits, at a precision of ``eps``."""
    size, tolerance = abs(number), _TOLERANCE * eps
    if not 0 < size < math.inf:
        return 1.0
    mantissa = size / 10.0 ** math.floor(math.log10(size))
    for digits in range(16):
        if abs(round(mantissa, digits) - mantissa) <= tolerance * mantissa:
            return min(1.0, 20 * 10.0**digits * tolerance)
    return 1.0


def of_factor(number: float, eps: float) -> float:
    """The same of a decimal, one over a decimal or a ratio of small whole numbers, times a power of two."""
    size, tolerance = abs(number), _TOLERANCE * eps
    if not 0 < size < math.inf:
        return 1.0
    part = math.frexp(size)[0]
    if part == 0.5:
        return 20 * tolerance
    found = min(of_bound(one, eps) for one in (size, 1 / size, part, 1 / part))
    for one in (min(size, 1 / size), part):
        ratio = Fraction(one).limit_denominator(1 << 20)
        if abs(float(ratio) - one) <= tolerance * one:
            found = min(found, 20 * tolerance * ratio.denominator * max(1, ratio.numerator))
    return found


class Constants:
    """Decides which of several readings of one number is meant, each of which says that something is constant.

    A reading is believed where its constant was seen before while what it would depend on was another, or where it is a
    plain number and no other reading gives one that is nearly as plain.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, list[tuple[float, float]]] = {}

    def told(
        self, readings: Mapping[Key, float], witness: float, eps: float,
        alike: Callable[[Key, Key], bool], bounds: Collection[Key] = (),
    ) -> Key | None:  # fmt: skip
        """The reading that is meant; None where that cannot be told.

        Args:
            readings: each with its constant.
            witness: what has to differ from one time to the next, for a constant that stays to mean something.
            eps: of the dtype of the numbers.
            alike: whether two readings come to the same.
            bounds: those whose constant is a bound and not a factor.
        """
        steady = [key for key, constant in readings.items() if self._stayed(key, constant, witness, eps)]
        limit = _LATER if any(key in self._seen for key in readings) and not steady else _FIRST
        for key, constant in readings.items():
            self._seen[key] = [*self._seen.get(key, []), (constant, witness)][-_KEPT:]
        if steady and all(alike(steady[0], key) for key in steady[1:]):
            return steady[0]
        chances = {
            key: (of_bound if key in bounds else of_factor)(constant, eps)
            for key, constant in readings.items()
            if not steady or key in steady
        }
        best = min(chances, key=lambda key: chances[key])
        if chances[best] > limit:
            return None
        rivals = [key for key in chances if key != best and chances[key] < min(_FAR * chances[best], _FIRST)]
        return best if all(alike(best, key) for key in rivals) else None

    def _stayed(self, key: Hashable, constant: float, witness: float, eps: float) -> bool:
        return any(
            abs(constant - before) <= _TOLERANCE * eps * abs(constant) and abs(witness - then) > 1e-3 * abs(witness)
            for before, then in self._seen.get(key, ())
        )


def powers_of(pairs: Sequence[tuple[Tensor, Tensor]], constants: Constants) -> list[float]:
    """:func:`power_of` each factor and value, 0-d each, which are read at once."""
    if not pairs:
        return []
    numbers = read([number for pair in pairs for number in pair])
    eps = [max(torch.finfo(factor.dtype).eps, 1e-15) for factor, _ in pairs]
    return [power_of(*found, constants) for found in zip(numbers[::2], numbers[1::2], eps, strict=True)]


def power_of(factor: float, value: float, eps: float, constants: Constants) -> float:
    r"""m, where the factor is :math:`c v^m` of the value v with a constant c: 0 for a constant factor.

    A backward pass tells the number alone. ``v ** 2`` leaves 2 v (m is 1), ``v / v.detach()`` leaves 1 / v, and a plain
    number says that it is a constant.

    Args:
        factor: of the loss's gradient.
        value: of the loss.
        eps: of the dtype of the factor.
        constants: what was seen in earlier steps.

    Raises:
        SkippedStepError: where it cannot be told.
    """
    f, v = factor, value
    if abs(f) == 1.0 or f == 0.0 or not math.isfinite(f) or not math.isfinite(v):
        return 0.0
    powers = [m for m in _POWERS if not m or v > 0 or (v < 0 and m == int(m))]
    found = constants.told({m: f / v**m for m in powers}, v, eps, lambda a, b: a == b)
    if found is None:
        raise SkippedStepError(
            "used",
            f"the loss's gradient was multiplied by {f:.6g}, and whether that number is a constant or follows from the "
            "loss's own value cannot be told from it; multiply the loss by plain numbers, or by the same in each step",
        )
    return found
