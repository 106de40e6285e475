"""Numbers in a module's state that are read from their device once, not at every call."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class OnHost:
    """A number that a tensor holds, read again only where the tensor is another or somebody else wrote into it.

    Reading it makes the host wait for a GPU. torch counts what is written into a tensor, by ``load_state_dict`` too.

    Args:
        read: the number of a tensor.

    Example:
        >>> import torch
        >>> count, steps = OnHost(), torch.tensor(3)
        >>> count.of(steps)
        3
        >>> count.wrote(steps.add_(1), 4)  # without reading it
        >>> count.of(steps)
        4
    """

    def __init__(self, read: Callable[[Tensor], int] = int) -> None:
        self._read = read
        self._tensor: Tensor | None = None
        self._version: int | None = None
        self._number = 0

    def of(self, tensor: Tensor) -> int:
        """The number that it holds now."""
        version = _version(tensor)
        if self._tensor is not tensor or version is None or self._version != version:
            self.wrote(tensor, self._read(tensor))
        return self._number

    def wrote(self, tensor: Tensor, number: int) -> None:
        """What whoever wrote into it knows that it holds."""
        self._tensor, self._version, self._number = tensor, _version(tensor), number


def _version(tensor: Tensor) -> int | None:
    """How often it was written into; None of a tensor of inference mode, whose writes nobody counts."""
    return None if tensor.is_inference() else tensor._version
