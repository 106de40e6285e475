"""Numbers that are read from their device at once, and those of a module's state not at every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from metricgrad.precision import wide_dtype

Number = TypeVar("Number")


def read(numbers: Sequence[Tensor]) -> list[float]:
    """Of 0-d tensors of any dtypes; where one is on another device than the host, it waits for all at once.

    Example:
        >>> read([torch.tensor(True), torch.tensor(2**24 + 1), torch.tensor(0.5)])
        [1.0, 16777217.0, 0.5]
    """
    if all(number.device.type == "cpu" for number in numbers):
        return [float(number.item()) for number in numbers]
    device = next(number.device for number in numbers if number.device.type != "cpu")
    every = torch.empty(len(numbers), dtype=wide_dtype(device), device=device)
    return torch.stack([number.to(device) for number in numbers], out=every).tolist()


class OnHost(Generic[Number]):
    """A number that a tensor holds, read again only where the tensor is another or somebody else wrote into it.

    Reading it makes the host wait for a GPU. torch counts what is written into a tensor, by ``load_state_dict`` too.

    Args:
        read: the number of a tensor, or the numbers.

    Example:
        >>> import torch
        >>> count, steps = OnHost(int), torch.tensor(3)
        >>> count.of(steps)
        3
        >>> count.wrote(steps.add_(1), 4)  # without reading it
        >>> count.of(steps)
        4
    """

    def __init__(self, read: Callable[[Tensor], Number]) -> None:
        self._read = read
        self._tensor: Tensor | None = None
        self._version: int | None = None
        self._number: Number | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy reads for itself: its tensor counts from another number."""
        return OnHost, (self._read,)

    def of(self, tensor: Tensor) -> Number:
        """The number that it holds now."""
        version = _version(tensor)
        if self._tensor is not tensor or version is None or self._version != version:
            self.wrote(tensor, self._read(tensor))
        return cast(Number, self._number)

    def wrote(self, tensor: Tensor, number: Number) -> None:
        """What whoever wrote into it knows that it holds."""
        self._tensor, self._version, self._number = tensor, _version(tensor), number


def _version(tensor: Tensor) -> int | None:
    """How often it was written into; None of a tensor of inference mode, whose writes nobody counts."""
    return None if tensor.is_inference() else tensor._version
