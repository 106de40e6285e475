"""Within what the values of a tensor lie, looked at once for all who ask within one call of a loss.

A metric, the loss that rides with it and the form around both each check scores and targets. Each look is a pass over
the values, and on a GPU the host waits for it. Inside :func:`looked_at_once` the first look serves all: nobody writes
into a batch while a loss is computed.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from metricgrad.on_host import read
from metricgrad.outside_graphs import transformed

_WITH_ORDER = {
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
}  # fmt: skip


class ValueRange(NamedTuple):
    """Of no values: from infinity down to minus infinity.

    Attributes:
        low: the smallest; NaN where one is NaN.
        high: the largest; likewise.
    """

    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Whether none is NaN or infinite."""
        return not (math.isnan(self.low) or self.low == -math.inf or self.high == math.inf)

    @property
    def has_nan(self) -> bool:
        """Whether one is NaN."""
        return math.isnan(self.low)

    @property
    def constant(self) -> bool:
        """Whether there is one value, however often."""
        return self.low == self.high

    def within(self, low: float, high: float) -> bool:
        """Whether all lie between these, and none is NaN."""
        return (low <= self.low and self.high <= high) or self.low > self.high


class _Looked(threading.local):
    """What was found inside :func:`looked_at_once`; tensors are held, so that nothing else takes their memory."""

    ranges: dict[object, tuple[Tensor, ValueRange]] | None = None
    whole: dict[object, tuple[Tensor, bool]] | None = None


_looked = _Looked()


Looks = tuple[dict[object, tuple[Tensor, ValueRange]], dict[object, tuple[Tensor, bool]]]


@contextlib.contextmanager
def looked_at_once(before: Looks | None = None) -> Iterator[None]:
    """Inside, the values of one piece of memory are looked at once, whatever view of it is asked about.

    Args:
        before: what an earlier call has :func:`looked_at`, where this one is the same call again.
    """
    if _looked.ranges is not None:
        yield
        return
    _looked.ranges, _looked.whole = before or ({}, {})
    try:
        yield
    finally:
        _looked.ranges = _looked.whole = None


def looked_at() -> Looks | None:
    """What was looked at so far inside :func:`looked_at_once`, for the same call again; None outside."""
    return None if _looked.ranges is None or _looked.whole is None else (_looked.ranges, _looked.whole)


def ranges_of(*tensors: Tensor) -> list[ValueRange]:
    """The range of each, of real numbers; those that are not known yet in one look.

    Example:
        >>> import torch
        >>> ranges_of(torch.tensor([0.0, 2.0, 1.0]))
        [ValueRange(low=0.0, high=2.0)]
    """
    known = {} if _looked.ranges is None else _looked.ranges
    keys = [_memory(tensor) for tensor in tensors]
    new = {key: _bare(tensor) for key, tensor in zip(keys, tensors, strict=True) if key not in known}
    if new:
        for (key, tensor), found in zip(new.items(), _look(list(new.values())), strict=True):
            known[key] = (tensor, found)
    return [known[key][1] for key in keys]


def look_at(values: Tensor, *others: object) -> None:
    """Look at once at the ranges of some values, and of what other real numbers there are on their device.

    What is no such tensor is passed over: who asks for its range later says what is wrong with it.
    """
    ranges_of(values, *(x for x in others if isinstance(x, Tensor) and x.device == values.device and _has_a_range(x)))


def known_as(values: Tensor, copy: Tensor) -> None:
    """A copy has the range of the values that were looked at, in whatever shape."""
    if _looked.ranges is not None and (found := _looked.ranges.get(_memory(values))) is not None:
        _looked.ranges.setdefault(_memory(copy), (copy, found[1]))


def _has_a_range(x: Tensor) -> bool:
    return x.dtype in _WITH_ORDER and x.layout == torch.strided and not x.is_nested


def are_whole(values: Tensor) -> bool:
    """Whether all are whole numbers; NaN and infinity are none."""
    if not values.is_floating_point():
        return True
    known = {} if _looked.whole is None else _looked.whole
    key = _memory(values)
    if key not in known:
        values = values.detach()
        known[key] = (values, bool((values == values.trunc()).all()) and ranges_of(values)[0].finite)
    return known[key][1]


def _bare(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def _memory(tensor: Tensor) -> object:
    """What two views of the same values share: where they begin, and how they lie."""
    if _looked.ranges is None or transformed(tensor):
        return object()
    if tensor.is_contiguous():
        lies: object = tensor.numel()
    else:
        lies = tuple((size, step) for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size != 1)
    return tensor.data_ptr(), tensor.dtype, lies


def _look(tensors: list[Tensor]) -> list[ValueRange]:
    """Of each, waiting for a device once."""
    found = read([end for tensor in tensors for end in _ends(tensor)])
    return [ValueRange(low, high) for low, high in zip(found[::2], found[1::2], strict=True)]


def _ends(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """0-d: the smallest and the largest."""
    if not tensor.numel():
        return tensor.new_tensor(math.inf, dtype=torch.float32), tensor.new_tensor(-math.inf, dtype=torch.float32)
    return torch.aminmax(tensor.byte() if tensor.dtype == torch.bool else tensor)
