"""The one loss of ours that a model or a trainer holds."""

from __future__ import annotations

from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss


def loss_in(module: nn.Module, remedy: str) -> Loss:
    """The loss among a module's parts; losses within a loss do not count.

    Raises:
        MetricgradError: where there is none, or more than one; ``remedy`` says how one is named.
    """
    found = {name: part for name, part in module.named_modules() if isinstance(part, Loss)}
    outer = [name for name in found if not any(name.startswith(f"{other}.") for other in found if other != name)]
    if len(outer) != 1:
        what = f"losses of metricgrad at {', '.join(outer)}" if outer else "no loss of metricgrad"
        raise MetricgradError(f"{type(module).__name__} has {what}; {remedy}")
    return found[outer[0]]
