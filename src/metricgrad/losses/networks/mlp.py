"""Small networks whose gradients can be differentiated again: layers, and the mean over what they say of each row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    r"""Linear layers with ELU between them, or the same with an output that never falls when an input rises.

    A monotone layer multiplies by :math:`|W|`, and half of its units turn the ELU round, :math:`-\mathrm{ELU}(-x)`:
    with one bend alone, non-negative weights could make convex functions only. Those units are kept with their sign
    turned, so that both signs are the weights', which are small, and the rows need one ELU.

    Args:
        widths: of the input, each hidden layer and the output.
        monotone: whether the output is non-decreasing in every input.

    References:
        Both bends: D. Runje and S. Shankaranarayana, "Constrained Monotonic Neural Networks", ICML 2023.
    """

    def __init__(self, widths: Sequence[int], *, monotone: bool) -> None:
        super().__init__()
        self.monotone = monotone
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(out, inner)) for inner, out in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(out)) for out in widths[1:])
        if monotone:
            turned = [torch.ones(widths[0]), *map(_turned, widths[1:-1]), torch.ones(widths[-1])]
            for i, (inner, out) in enumerate(itertools.pairwise(turned)):
                self.register_buffer(f"signs{i}", torch.outer(out, inner), persistent=False)
                self.register_buffer(f"signs_of_bias{i}", out, persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            fan_in = weight.shape[1]
            # |W| has the mean of its bound's half: a bound of 1 / sqrt(fan_in) would add up to a slope of sqrt(fan_in)
            bound = 4 / fan_in if self.monotone else 1 / math.sqrt(fan_in)
            with torch.no_grad():
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
                bias.copy_((torch.rand(bias.shape, generator=generator) * 2 - 1) * min(1.0, 4 * bound))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., inputs)`` to ``(..., outputs)``, in the dtype of ``x``."""
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.monotone:
                weight, bias = weight.copysign(self._buffers[f"signs{i}"]), bias * self._buffers[f"signs_of_bias{i}"]
            x = nn.functional.linear(x, weight.to(x.dtype), bias.to(x.dtype))
            if i < last:
                x = nn.functional.elu(x)
        return x


class MeanAboveZero(nn.Module):
    """The mean over the rows of a monotone function that is 0 where all readings are 0.

    Args:
        widths: of its layers, the readings first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP(widths, monotone=True)

    def forward(self, readings: Tensor) -> Tensor:
        """``(B, N, K)`` readings from 0 to ``(B,)`` values from 0."""
        each = self.mlp(readings)[..., 0] - self.mlp(torch.zeros_like(readings[0, 0]))
        return each.mean(-1)


def _turned(width: int) -> Tensor:
    """1 for the units that bend up, the first half, and -1 for those that bend down."""
    return torch.where(torch.arange(width) < (width + 1) // 2, 1.0, -1.0)
