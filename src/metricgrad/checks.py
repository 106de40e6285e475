"""What is asked of anything a user hands over: that it is made of numbers, and where they are none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.value_range import ranges_of

_SHOWN = 5
_NARROW = {torch.uint16, torch.uint32, torch.uint64} | {
    dtype for name in dir(torch) if name.startswith("float8") and isinstance(dtype := getattr(torch, name), torch.dtype)
}
"""Dtypes that store numbers and have next to no operations."""


def check_options(what: str, given: Mapping[str, Any], *takers: Callable[..., Any], hidden: Iterable[str] = ()) -> None:
    """Refuse keyword arguments that none of the takers has, naming what is close.

    Raises:
        MetricgradError: for the first of them.
    """
    known = dict.fromkeys(
        p.name for taker in takers for p in inspect.signature(taker).parameters.values() if p.kind is p.KEYWORD_ONLY
    )
    names = [name for name in known if name not in hidden]
    for name in given:
        if name == "reduction":
            raise MetricgradError(
                f"{what} has no reduction: its value is that of the whole batch, 0-d; leave it out, and multiply the "
                "loss where a sum over rows is wanted"
            )
        if name not in names:
            raise MetricgradError(f"{what} has no option {name!r}: {did_you_mean(name, names)}")


def check_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor of real numbers one can look at, naming the remedy."""
    if not isinstance(value, Tensor):
        check_numbers(name, value)
        taken = f"{name}.to_numpy()" if hasattr(value, "to_numpy") else name
        raise MetricgradError(f"{name} is a {type(value).__name__}; pass a tensor: torch.as_tensor({taken})")
    if value.is_nested:
        raise MetricgradError(
            f"{name} is a nested tensor; pass rows of one length: {name}.to_padded_tensor(0.0), with a mask"
        )
    if value.layout != torch.strided:
        kind = str(value.layout).removeprefix("torch.")
        raise MetricgradError(f"{name} is a {kind} tensor; pass a dense one: {name}.to_dense()")
    if value.is_complex():
        raise MetricgradError(f"{name} has dtype {value.dtype}; expected real numbers, as {name}.abs()")
    if value.dtype in _NARROW:
        wider = "float()" if value.is_floating_point() else "long()"
        raise MetricgradError(f"{name} has dtype {value.dtype}, in which torch computes nothing; pass {name}.{wider}")
    if value.is_meta:
        raise MetricgradError(f"{name} is on the meta device, which holds no values; pass a tensor of a real one")


def check_numbers(name: str, values: Any) -> None:
    """Refuse text, objects and uneven lists, which no tensor can be made of, naming the remedy."""
    if isinstance(values, Tensor):
        return
    if values is None or isinstance(values, dict):
        raise MetricgradError(f"{name} is {'None' if values is None else 'a dict'}; pass a tensor or an array")
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise MetricgradError(
            f"{name} is a {type(values).__name__} whose rows differ in length; pad them to one shape, or leave some out"
        ) from error
    except (RuntimeError, TypeError):  # tensors in a list, with a graph or on another device
        raise MetricgradError(
            f"{name} is a {type(values).__name__} of tensors; make one of them: torch.stack({name})"
        ) from None
    if array.dtype.kind in "OUSM" or array.dtype.names is not None:
        texts = dict.fromkeys(str(one) for one in array.reshape(-1)[:1000] if isinstance(one, str | bytes))
        if texts:
            shown = ", ".join(map(repr, list(texts)[:3]))
            raise MetricgradError(
                f"{name} hold text ({shown}{', ...' if len(texts) > 3 else ''}); pass numbers: for classes "
                f"sklearn.preprocessing.LabelEncoder().fit_transform({name.split()[-1]}), for columns an encoding of "
                "their categories"
            )
        raise MetricgradError(
            f"{name} are an array of dtype {array.dtype}; pass numbers: np.asarray({name.split()[-1]}, dtype='float32')"
        )


def where_not_finite(values: Tensor, rows: int | None = None, *, nan_only: bool = False) -> str | None:
    """In words, how many rows hold NaN or infinity, which first, and in which columns; None where none does.

    Args:
        values: rows first; anything that is not floating holds none.
        rows: of how many rows there are, where these are some of them.
        nan_only: whether infinity is let through.

    Example:
        >>> import torch
        >>> where_not_finite(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]))
        'NaN in 1 of 2 rows (row 1), in column 1'
    """
    if not values.is_floating_point() or not values.numel():
        return None
    (span,) = ranges_of(values)
    if span.finite or (nan_only and span.low == span.low):
        return None
    values = values.detach().reshape(len(values) if values.ndim else 1, -1)
    wrong = values.isnan() if nan_only else ~values.isfinite()
    what = "NaN" if bool(values[wrong].isnan().all()) else "NaN or infinity"
    hit = wrong.any(1).nonzero()[:, 0].tolist()
    found = f"{what} in {len(hit)} of {rows or len(values)} rows (row{_listed(hit)})"
    if values.shape[1] > 1:
        columns = wrong.any(0).nonzero()[:, 0].tolist()
        found += f", in column{_listed(columns)}" if len(columns) < values.shape[1] else ", in every column"
    return found


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return (
        ("s " if len(numbers) > 1 else " ") + shown + (f" and {len(numbers) - _SHOWN} more" * (len(numbers) > _SHOWN))
    )
