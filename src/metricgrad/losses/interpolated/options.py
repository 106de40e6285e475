"""The options of an interpolated metric, checked before anything is built of them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, Literal

from metricgrad.errors import MetricgradError
from metricgrad.refactoring.base import Refactoring

Interpolation = Literal["local", "inverse_distance"]
Softness = float | Literal["auto", "once"]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "interpolation": ("local", "inverse_distance"),
    "paper": (None, "published", "released"),
    "gradient": ("true", "released"),
}
_LEAST = {"warm_up": 0, "anchors": 1, "flips": 1, "calls": 4}
_MOST = {"anchors": 10_000}  # each anchor is a whole score set, held at once


def check_options(**options: Any) -> None:
    """Check each option by its name.

    Raises:
        MetricgradError: naming the option, what it was and what it may be.
    """
    for name, value in options.items():
        if name in _CHOICES:
            known = _CHOICES[name]
            require(value in known, name, value, " or ".join(map(repr, known)))
        elif name in _LEAST:
            whole = isinstance(value, Integral) and int(value) >= _LEAST[name]
            require(whole, name, value, f"a whole number, {_LEAST[name]} or more")
            require(value <= _MOST.get(name, value), name, value, f"at most {_MOST.get(name, 0):,}")
        elif name == "softness":
            known = value in ("auto", "once") or _positive(value)
            require(known, name, value, "a positive number, 'auto' or 'once'")
        elif name == "power":
            require(_positive(value), name, value, "a positive number")
        else:
            require(_positive(value) and value <= 1, name, value, "a number in (0, 1]")


def check_refactoring(refactoring: object) -> None:
    """Refuse what is no refactoring."""
    if refactoring is not None and not isinstance(refactoring, Refactoring):
        raise MetricgradError(
            f"refactoring is {refactoring!r}; pass what infer_refactoring returns, or a Refactoring such as Argmax()"
        )


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """Raise unless an option is what is expected of it."""
    if not ok:
        raise MetricgradError(f"{name} is {value!r}; expected {expected}")


def _positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf
