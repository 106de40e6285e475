r"""Gradients of linear layers' weights that are not multiplied out.

The gradient of a weight is :math:`V = \Delta^\top Y`, of the gradients :math:`\Delta` of the layer's outputs and its
inputs Y. Where a batch has fewer rows than the layer has units, the two are smaller than V, and
:math:`x V^\top = (x Y^\top) \Delta` takes fewer multiplications than either V or its product with x.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from metricgrad.aligners.isolation import modules_of
from metricgrad.outside_graphs import is_compiled
from metricgrad.precision import wide

_AT_ONCE = 1 << 15


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
        for rows in _slices(self.outer.shape[1], self.inner.shape[1]):
            yield rows, (self.outer[:, rows].t() @ self.inner).mul_(self.factor)

    def dot(self, matrix: Tensor) -> Tensor:
        """0-d: the sum of the products of V's entries and a matrix's."""
        total = wide(matrix.new_zeros(()))
        for rows in _slices(*self.inner.shape):
            total += wide((self.outer[rows] @ matrix).mul_(self.inner[rows])).sum()
        return total * self.factor

    def whole(self) -> Tensor:
        """V."""
        return (self.outer.t() @ self.inner).mul_(self.factor)


ParameterDirection = Mapping[Tensor, Tensor | OuterProducts]


def whole(gradient: Tensor | OuterProducts) -> Tensor:
    """Multiplied out, where it is not yet."""
    return gradient.whole() if isinstance(gradient, OuterProducts) else gradient


def blocks(gradient: Tensor | OuterProducts) -> Iterator[tuple[Any, Tensor]]:
    """Some rows at a time, which take little memory and stay near the processor: the index of each, and its values."""
    if isinstance(gradient, OuterProducts):
        yield from gradient.blocks()
    elif gradient.numel() <= _AT_ONCE:
        yield ..., gradient
    else:
        for rows in _slices(len(gradient), gradient[0].numel()):
            yield rows, gradient[rows]


def _slices(rows: int, width: int) -> Iterator[slice]:
    length = max(1, _AT_ONCE // width)
    return (slice(start, start + length) for start in range(0, rows, length))


def times(gradient: Tensor | OuterProducts, slope: float) -> Tensor | OuterProducts:
    """Multiplied by a number."""
    if isinstance(gradient, Tensor):
        return gradient * slope
    return dataclasses.replace(gradient, factor=gradient.factor * slope)


def joined(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], products: Mapping[Tensor, OuterProducts]
) -> dict[Tensor, Tensor | OuterProducts]:
    """Of each parameter that has any: the gradient, or the outer products, or their sum where it has both."""
    found: dict[Tensor, Tensor | OuterProducts] = {}
    for p, gradient in zip(parameters, gradients, strict=True):
        if p in products:
            found[p] = products[p] if gradient is None else gradient + products[p].whole()
        elif gradient is not None:
            found[p] = gradient
    return found


class LinearTaps(TorchFunctionMode):
    """Inside, linear layers are tapped: backward passes while :meth:`collecting` keep the factors of their weights'.

    Where a call reads a weight with as many rows as would make the factors larger than the product, where something
    hooks the weight's gradient, recomputes the layer or compiles it, and where a weight is read by anything but
    ``torch.nn.functional.linear``, its gradient is what it is without.

    Args:
        model: whose weights; None taps nothing.
    """

    def __init__(self, model: nn.Module | None) -> None:
        super().__init__()
        self._weights: dict[int, Tensor] = {}
        parts = [] if model is None else modules_of(model)
        if not any(map(is_compiled, parts)):
            stand = (p for part in parts for p in part._parameters.values() if p is not None)
            self._weights = {id(p): p for p in stand if p.ndim == 2 and not p._backward_hooks}
        self._tap = _Tap()

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other function goes its own way."""
        return (self._linear if func is functional.linear else func)(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Inside, backward passes leave the weights' gradients out; others give them."""
        self._tap.open = True
        try:
            yield
        finally:
            self._tap.open = False

    def found(self) -> dict[Tensor, OuterProducts]:
        """What was left out, for each weight that has such a part."""
        return {self._weights[key]: _stacked(some) for key, some in self._tap.factors.items()}

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if id(weight) not in self._weights or not _may_tap(input, weight):
            return functional.linear(input, weight, bias)
        return cast(Tensor, _Tapped.apply(input, weight, bias, self._tap, id(weight)))


class _Tap:
    """Where the factors of weights' gradients are kept while it is open, by the weights' ids."""

    def __init__(self) -> None:
        self.open = False
        self.factors: dict[int, list[tuple[Tensor, Tensor]]] = {}


class _Tapped(torch.autograd.Function):
    """A linear layer whose backward pass keeps the factors of its weight's gradient while the tap is open."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, tap: _Tap, key: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.tap, ctx.key = tap, key
        return functional.linear(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,), (input, weight) = grad_outputs, ctx.saved_tensors
        of_input, of_weight, of_bias, *_ = ctx.needs_input_grad
        outer, inner = (side.reshape(-1, side.shape[-1]) for side in (gradient, input))
        left_out = of_weight and ctx.tap.open
        if left_out:
            ctx.tap.factors.setdefault(ctx.key, []).append((outer.detach(), inner.detach()))
        return (
            gradient @ weight if of_input else None,
            outer.t() @ inner if of_weight and not left_out else None,
            outer.sum(0) if of_bias else None,
            None,
            None,
        )


def _stacked(some: list[tuple[Tensor, Tensor]]) -> OuterProducts:
    outers, inners = zip(*some, strict=True)
    several = len(some) > 1
    return OuterProducts(torch.cat(outers) if several else outers[0], torch.cat(inners) if several else inners[0])


def _may_tap(input: Tensor, weight: Tensor) -> bool:
    casts = input.dtype != weight.dtype or torch.is_autocast_enabled(input.device.type)
    smaller = input.numel() // max(1, input.shape[-1]) * sum(weight.shape) < weight.numel()
    if casts or not smaller or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    hooks: Any = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]  (as in torch's own code)
    again = hooks._top_saved_tensors_default_hooks(True) is not None  # set by checkpoints
    return not again and not torch._C._are_functorch_transforms_active()
