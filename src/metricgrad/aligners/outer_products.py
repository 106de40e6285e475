r"""Gradients of linear layers' weights that are not multiplied out.

The gradient of a weight is :math:`V = \Delta^\top Y`, of the gradients :math:`\Delta` of the layer's outputs and its
inputs Y. Where a batch has fewer rows than the layer has units, the two are smaller than V, and
:math:`x V^\top = (x Y^\top) \Delta` takes fewer multiplications than either V or its product with x.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class OuterProducts:
    r"""A matrix :math:`V = f \Delta^\top Y`.

    Attributes:
        outer: :math:`\Delta`, ``(R, out)``.
        inner: Y, ``(R, in)``.
        factor: f.
    """

    outer: Tensor
    inner: Tensor
    factor: float = 1.0

    def linear(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``: :math:`x V^\top`."""
        return ((x @ self.inner.t()) @ self.outer).mul_(self.factor)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """V, some rows at a time."""
        length = max(1, _AT_ONCE // self.inner.shape[1])
        for start in range(0, self.outer.shape[1], length):
            rows = slice(start, start + length)
            yield rows, (self.outer[:, rows].t() @ self.inner).mul_(self.factor)

    def whole(self) -> Tensor:
        """V."""
        return (self.outer.t() @ self.inner).mul_(self.factor)


def whole(gradient: Tensor | OuterProducts) -> Tensor:
    """Multiplied out, where it is not yet."""
    return gradient.whole() if isinstance(gradient, OuterProducts) else gradient


class LinearTaps(TorchFunctionMode):
    """Inside, backward passes leave out the products for some weights, and keep what they are products of.

    Args:
        weights: ``(out, in)`` parameters; those that a call reads with as many rows as would make the factors larger
            than the product are treated as ever, and so are uses other than ``torch.nn.functional.linear``.
    """

    def __init__(self, weights: Collection[Tensor]) -> None:
        super().__init__()
        self.weights = {id(weight) for weight in weights}
        self._taken: list[_Factors] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other function goes its own way."""
        return (self._linear if func is functional.linear else func)(*args, **(kwargs or {}))

    def found(self) -> dict[Tensor, OuterProducts]:
        """After the backward pass: what it left out, for each weight that has such a part."""
        parts: dict[Tensor, list[_Factors]] = {}
        for factors in self._taken:
            if factors.outer is not None:
                parts.setdefault(factors.weight, []).append(factors)
        return {weight: OuterProducts(*_stacked(some)) for weight, some in parts.items()}

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if id(weight) not in self.weights or not torch.is_grad_enabled() or not _smaller(input, weight):
            return functional.linear(input, weight, bias)
        factors = _Factors(weight, input.detach())
        self._taken.append(factors)
        return _Tapped.apply(input, weight, bias, factors)


@dataclass
class _Factors:
    weight: Tensor
    inner: Tensor
    outer: Tensor | None = None


class _Tapped(torch.autograd.Function):
    """A linear layer whose backward pass keeps the outputs' gradient in place of the weight's."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, factors: _Factors) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.factors = factors
        return functional.linear(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,), (weight,) = grad_outputs, ctx.saved_tensors
        of_input, _, of_bias, _ = ctx.needs_input_grad
        ctx.factors.outer = gradient
        rows = gradient.reshape(-1, gradient.shape[-1])
        return gradient @ weight if of_input else None, None, rows.sum(0) if of_bias else None, None


def _stacked(some: Sequence[_Factors]) -> tuple[Tensor, Tensor]:
    outers, inners = (
        [part.reshape(-1, part.shape[-1]) for part in side if part is not None]
        for side in ([factors.outer for factors in some], [factors.inner for factors in some])
    )
    return (torch.cat(outers), torch.cat(inners)) if len(some) > 1 else (outers[0], inners[0])


def _smaller(input: Tensor, weight: Tensor) -> bool:
    cast = input.dtype != weight.dtype or torch.is_autocast_enabled(input.device.type)
    rows = input.numel() // max(1, input.shape[-1])
    return not cast and weight.ndim == 2 and rows * sum(weight.shape) < weight.numel()
