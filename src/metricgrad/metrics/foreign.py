"""Calls of callables that are not ours: one score set at a time, in their order of arguments, one number each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.time_limit import MetricFailedError, within_limit


def call_each(
    fn: Callable[..., Any],
    read: Tensor,
    targets: Tensor,
    context: Mapping[str, Tensor],
    *,
    numpy: bool,
    targets_first: bool,
    fixed: Mapping[str, Any],
    describe: Callable[[], str],
) -> Tensor:
    """``(T,)`` values of ``(T, ...)`` score sets; targets and context are converted once.

    Raises:
        MetricgradError: with ``describe()`` and how the callable was called, whatever it raised.
    """
    convert = _to_numpy if numpy else _as_it_is
    other, named = convert(targets), {k: convert(v) for k, v in context.items()}
    values = []
    for row in convert(read):
        try:
            pair = (other, row) if targets_first else (row, other)
            values.append(_one_number(within_limit(lambda pair=pair: fn(*pair, **fixed, **named))))
        except MetricFailedError as error:  # it took too long
            raise MetricFailedError(f"{describe()}: {error}") from error
        except Exception as error:
            kind = "" if isinstance(error, MetricgradError) else f"{type(error).__name__}: "
            reason = str(error).rstrip(".")
            raise MetricFailedError(
                f"{describe()}: {kind}{reason}. It was called with scores of shape {tuple(row.shape)} and targets of "
                f"shape {tuple(targets.shape)}; if it expects something else, say so in as_metric(...)"
            ) from error
    return torch.tensor(values, dtype=torch.float64 if read.device.type != "mps" else None, device=read.device)


def _as_it_is(x: Tensor) -> Any:
    return x


def _to_numpy(x: Tensor) -> Any:
    return x.detach().cpu().numpy()


def _one_number(value: Any) -> float:
    size = value.numel() if isinstance(value, Tensor) else getattr(value, "size", None)
    if isinstance(value, dict | list | tuple) or (isinstance(size, int) and size != 1):
        raise MetricgradError(
            f"returned {type(value).__name__} of {size or len(value)} values, and a metric is one number: "
            "choose an average, or wrap it in a function that picks the number"
        )
    return float(value.reshape(()) if hasattr(value, "reshape") else value)
