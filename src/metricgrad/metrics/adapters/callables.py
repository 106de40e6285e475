"""Calls of callables that are not ours: one score set at a time, in their order of arguments, one number each.

Whatever a callable does, it does to copies: what it writes into or keeps is nobody else's, and the random numbers it
draws, or a seed it sets, leave those of the training as they were. One that draws does so alike for all score sets, so
that their values differ by the scores alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from numbers import Complex, Number, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.time_limit import MetricFailedError, within_limit
from metricgrad.precision import wide_dtype


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
    """``(T,)`` values of ``(T, ...)`` score sets.

    Raises:
        MetricgradError: with ``describe()`` and how the callable was called, whatever it raised.
    """
    convert = _to_numpy if numpy else Tensor.clone
    values: list[float] = []
    generators, draws = Generators(read.device), True
    try:
        for row in read:
            pair = (convert(targets), convert(row)) if targets_first else (convert(row), convert(targets))
            named = {key: convert(value) for key, value in context.items()}
            found = within_limit(lambda pair=pair, named=named: fn(*pair, **fixed, **named))
            values.append(_one_number(found))
            draws = draws and generators.restore()
    except MetricFailedError as error:  # it took too long
        raise MetricFailedError(f"{describe()}: {error}") from error
    except Exception as error:
        kind = "" if isinstance(error, MetricgradError) else f"{type(error).__name__}: "
        raise MetricFailedError(
            f"{describe()}: {kind}{str(error).rstrip('.')}. It was called with scores of shape {tuple(read.shape[1:])} "
            f"and targets of shape {tuple(targets.shape)}; if it expects something else, say so in as_metric(...)"
        ) from error
    finally:
        generators.restore()
    return torch.tensor(values, dtype=wide_dtype(read.device), device=read.device)


class Generators:
    """The global generators of random numbers, as they are when this is made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._torch, self._python = torch.get_rng_state(), random.getstate()
        self._numpy = np.random.get_state(legacy=False)
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> bool:
        """Put them back; whether any had changed."""
        moved = [
            not torch.equal(torch.get_rng_state(), self._torch),
            not _equal(np.random.get_state(legacy=False), self._numpy),
            random.getstate() != self._python,
            self._cuda is not None and not torch.equal(torch.cuda.get_rng_state(self._device), self._cuda),
        ]
        if any(moved):
            torch.set_rng_state(self._torch)
            np.random.set_state(self._numpy)
            random.setstate(self._python)
            if self._cuda is not None:
                torch.cuda.set_rng_state(self._cuda, self._device)
        return any(moved)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(value, b[key]) for key, value in a.items())
    return np.array_equal(a, b)


def _to_numpy(x: Tensor) -> Any:
    return x.detach().cpu().numpy().copy()


def _one_number(value: Any) -> float:
    if value is np.ma.masked:
        return math.nan
    size = value.numel() if isinstance(value, Tensor) else getattr(value, "size", None)
    if size == 1 and hasattr(value, "item"):
        value = value.item()
    if _is_real(value):
        return float(value)
    size = f" of {len(value)} values" if hasattr(value, "__len__") and not isinstance(value, str) else ""
    raise MetricgradError(
        f"returned {type(value).__name__}{size}, and a metric is one number, a real one: choose an average, or wrap "
        "it in a function that returns the number"
    )


def _is_real(value: Any) -> bool:
    """Whether it is one of Python's real numbers, or a Decimal, which is registered as a Number alone."""
    return isinstance(value, Number) and (isinstance(value, Real) or not isinstance(value, Complex))
