"""The options of an interpolated metric, checked before anything is built of them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Refactoring

_MOST_ANCHORS = 10_000
_CHOICES: dict[str, tuple[Any, ...]] = {
    "interpolation": ("local", "inverse_distance"),
    "paper": (None, "published", "released"),
    "gradient": ("true", "released"),
}


def check_options(metric: Metric, refactoring: object, **options: Any) -> None:
    """Check what :class:`metricgrad.losses.interpolated.interpolated.Interpolated` was given.

    Raises:
        MetricgradError: naming the option, what it was and what it may be.
    """
    if refactoring is not None and not isinstance(refactoring, Refactoring):
        raise MetricgradError(
            f"refactoring is {refactoring!r}; pass what infer_refactoring returns, or a Refactoring such as Argmax()"
        )
    for name, known in _CHOICES.items():
        _require(options[name] in known, name, options[name], " or ".join(map(repr, known)))
    softness = options["softness"]
    _require(softness in ("auto", "once") or _positive(softness), "softness", softness,
             "a positive number, 'auto' or 'once'")  # fmt: skip
    _require(_positive(options["power"]), "power", options["power"], "a positive number")
    for name in ("q", "share"):
        _require(_positive(options[name]) and options[name] <= 1, name, options[name], "a number in (0, 1]")
    for name, least in (("warm_up", 0), ("anchors", 1), ("flips", 1), ("calls", 4)):
        whole = isinstance(options[name], Integral) and options[name] >= least
        _require(whole, name, options[name], f"a whole number, {least} or more")
    # each anchor is a whole score set, held at once
    _require(options["anchors"] <= _MOST_ANCHORS, "anchors", options["anchors"], f"at most {_MOST_ANCHORS:,}")
    far = options["interpolation"] == "inverse_distance"
    _require(options["gradient"] == "true" or far, "gradient", options["gradient"],
             "'true', unless interpolation='inverse_distance'")  # fmt: skip
    _require(
        options["share"] == 1 or not far or options["paper"] is not None,
        "share",
        options["share"],
        "1 with interpolation='inverse_distance', which takes whole score sets (paper=True takes a share)",
    )
    _require(options["warm_up"] == 0 or not metric.layout.of_embeddings, "warm_up", options["warm_up"],
             "0: a metric of embeddings has no cross-entropy to start from")  # fmt: skip


def _positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise MetricgradError(f"{name} is {value!r}; expected {expected}")
