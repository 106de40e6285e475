"""What ``fit`` and ``fit_population`` read of their options in the same way."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.catalogue import make_loss
from metricgrad.metric import Metric


def as_loss(loss: str | nn.Module | Callable[[], nn.Module], metric: Metric, seed: int) -> nn.Module:
    """A loss from its name, from a factory, or as it is.

    Raises:
        MetricgradError: for anything else.
    """
    made: Any = loss
    if isinstance(loss, str):
        made = make_loss(loss, metric, seed=seed)
    elif not isinstance(loss, nn.Module) and callable(loss):
        made = loss()
    if not isinstance(made, nn.Module):
        raise MetricgradError(
            f"loss must be a name, an nn.Module or a zero-argument factory of one, not {type(loss).__name__}"
        )
    return made


@contextmanager
def unchecked(*modules: nn.Module) -> Generator[None]:
    """Losses let non-finite scores through: training looks itself, and names the learning rate."""
    parts = [part for module in modules for part in module.modules() if hasattr(part, "check_finite")]
    before = [(part, getattr(part, "check_finite")) for part in parts]  # noqa: B009
    try:
        for part, _ in before:
            setattr(part, "check_finite", False)  # noqa: B010  (an attribute of some modules only)
        yield
    finally:
        for part, value in before:
            setattr(part, "check_finite", value)  # noqa: B010


def check_counts(**values: object) -> None:
    """Refuse what is no whole number above 0, where it is not None."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise MetricgradError(f"{name} is {value!r}; expected a whole number above 0")


def check_threshold(threshold: object) -> None:
    """Refuse what is neither ``"auto"``, nor a number, nor None."""
    if threshold not in ("auto", None) and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise MetricgradError(f"threshold is {threshold!r}; expected 'auto', a number on the logit scale, or None")
