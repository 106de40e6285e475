"""Convolutions of images in channels-last memory, in which those of a CPU take half the time or less.

The user's own step is as it was written; here the same numbers are computed in other places of memory. What a model
makes of them may depend on the place (a dropout mask does), so a model is tried first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from metricgrad.outside_graphs import is_compiled


class ChannelsLast(TorchFunctionMode):
    """Inside, two-dimensional convolutions in float32 give channels-last outputs, and what follows them too."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other function goes its own way; views of what a convolution gave are of a copy in the usual order."""
        if func is functional.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        if func is Tensor.view and args[0].ndim == 4:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def channels_last(used: bool) -> contextlib.AbstractContextManager[Any]:
    """:class:`ChannelsLast`, where it is used."""
    return ChannelsLast() if used else contextlib.nullcontext()


def may_gain(model: nn.Module) -> bool:
    """Whether there are convolutions of images on a CPU, called as Python code."""
    parts = list(model.modules())
    return not any(map(is_compiled, parts)) and any(
        isinstance(part, nn.Conv2d) and part.weight.device.type == "cpu" and part.weight.dtype is torch.float32
        for part in parts
    )


def _conv2d(input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if input.ndim == 4 and input.dtype is torch.float32 and input.device.type == "cpu":
        input, weight = _last(input), weight.contiguous(memory_format=torch.channels_last)
    return functional.conv2d(input, weight, *args, **kwargs)


def _last(images: Tensor) -> Tensor:
    """The same; of one channel with the stride that says channels-last, which both orders of memory allow."""
    if images.shape[1] == 1 and images.is_contiguous():
        return images[:, 0, :, :, None].permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
