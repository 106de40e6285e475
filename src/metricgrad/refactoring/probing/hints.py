"""What to tell a user whose metric no reading explains."""

from __future__ import annotations

from metricgrad.metrics.as_metric import as_metric
from metricgrad.refactoring.probing.caller import Caller

_TWINS = ("log_loss", "mse", "mae", "r2")
_NUDGE = 1e-4


def silence(caller: Caller) -> str:
    """For a metric that raised, was not finite, or did not vary."""
    ask = "check that reads=, inputs=, order= and the targets are what the metric expects"
    if caller.error:
        return f"it raised {caller.error}; {ask}"
    if not caller.finite:
        return f"it was never finite; {ask}"
    return f"no evidence: it is {caller.finite[0]:.4g} on every score set, from ideal to upside down; {ask}"


def refusal(caller: Caller) -> str:
    """For a metric that varies, and that nothing of what was tried determines."""
    if _is_unsteady(caller):
        return "it gives another value when called again on the same scores: draw its random numbers from a fixed seed"
    built_in = _built_in(caller)
    if built_in:
        return (
            f"it has the values of the built-in {built_in!r}, which is differentiable already: "
            f"pass as_metric({built_in!r}) instead"
        )
    stepwise = _is_stepwise(caller)
    if stepwise and caller.batch.kind == "graded":
        return (
            "it is piecewise constant, so it reads decisions, but labels are only looked for with targets of 0 and 1: "
            "pass those, as (targets > 0), or a refactoring of your own"
        )
    if stepwise:
        return (
            "it is piecewise constant, so it reads decisions, but at none of the places tried: a threshold other than "
            "logit 0, that is probability 0.5, or a reads= other than what it expects; move the threshold into the "
            "callable's scores, or pass a refactoring of your own"
        )
    standard = "'mse' or 'mae'" if caller.batch.kind == "graded" else "cross-entropy"
    return (
        "it reads more of the scores than their order, as calibration error does, so there are no comparisons to "
        f"interpolate over: train with {standard} and judge by the metric, write it in torch if it is smooth in the "
        "scores, or pass a refactoring of your own"
    )


def _built_in(caller: Caller) -> str:
    """The differentiable built-in metric of the same values, if there is one."""
    batch = caller.batch
    for name in _TWINS:
        try:
            values = [float(as_metric(name)(*batch.as_called(base))) for base in caller.bases]
        except ValueError:  # not for targets of this kind
            continue
        pairs = list(zip(values, caller.values, strict=True))
        if all(known is not None and abs(value - known) <= 1e-4 * max(1.0, abs(value)) for value, known in pairs):
            return name
    return ""


def _is_unsteady(caller: Caller) -> bool:
    index = caller.alive[0]
    again, before = caller.value(caller.bases[index]), caller.values[index]
    return again is not None and before is not None and not caller.same(again, before)


def _is_stepwise(caller: Caller) -> bool:
    """Whether moving every score a little changes nothing."""
    seen = [(caller.value(caller.bases[i] * (1 + _NUDGE)), caller.values[i]) for i in caller.alive[:3]]
    return all(a is not None and b is not None and a == b for a, b in seen)
