"""Forward rules of the layers where training spends its time, cheaper than those that autograd derives.

Autograd's own rules push a tensor of zeros through the first layer, whose input does not move, and take batch
normalisation apart into a dozen passes over memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from metricgrad.aligners.lookahead.first_layers import FirstLayer
from metricgrad.aligners.lookahead.outer_products import OuterProducts

Rule = Callable[..., Tensor]


class ReadElsewhereError(RuntimeError):
    """A weight whose tangent is not multiplied out was read by something other than a linear layer."""


class ForwardRules(TorchFunctionMode):
    """Inside a dual level, linear layers, convolutions and batch normalisation carry tangents by the rules below.

    Args:
        products: tangents of weights that are no duals themselves, each beside its weight.
        first: calls of linear layers in the step, with the parameters of the moment; where one is called with the
            same input, its output is what it was.
    """

    def __init__(self, products: Iterable[tuple[Tensor, OuterProducts]] = (), first: Iterable[FirstLayer] = ()) -> None:
        super().__init__()
        self._products = {id(weight): product for weight, product in products}
        self._first: dict[int, list[FirstLayer]] = {}
        for layer in first:
            self._first.setdefault(id(layer.weight), []).append(layer)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other function goes its own way.

        Raises:
            ReadElsewhereError: where it makes a tensor of a weight whose tangent is among the products.
        """
        kwargs = kwargs or {}
        if func is functional.linear:
            weight = _weight(*args, **kwargs)
            product, first = self._products.get(id(weight)), self._first.get(id(weight), ())
            if product is not None or first:
                return _linear(product, first, *args, **kwargs)
        found = (_RULES.get(func) or func)(*args, **kwargs)
        if self._products and isinstance(found, Tensor | tuple | list) and not isinstance(found, torch.Size):
            self._check(args)
            self._check(kwargs.values())
        return found

    def _check(self, args: Iterable[Any]) -> None:
        for arg in args:
            if id(arg) in self._products:
                raise ReadElsewhereError
            if isinstance(arg, tuple | list):
                self._check(arg)


def _weight(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return weight


def _linear(
    product: OuterProducts | None, first: Sequence[FirstLayer], input: Tensor, weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Of a weight that moves: one whose tangent is not multiplied out, or a first layer's."""
    (x, dx), (w, dw), (b, db) = map(_parts, (input, weight, bias))
    known = next((layer.output for layer in first if layer.made(x, bias)), None)
    value = functional.linear(x, w, b) if known is None else known
    if product is not None:
        tangent = product.linear(x)
        if db is not None:
            tangent += db
    else:
        assert dw is not None
        tangent = functional.linear(x, dw, db)
    if dx is not None:
        tangent += functional.linear(dx, w)
    return forward_ad.make_dual(value, tangent)


def _affine(function: Callable[..., Tensor]) -> Rule:
    """Of a function that is linear in its input and, together, in weight and bias."""

    def rule(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        (x, dx), (w, dw), (b, db) = map(_parts, (input, weight, bias))
        value = function(x, w, b, *args, **kwargs)
        if dw is not None:
            tangent = function(x, dw, db, *args, **kwargs)
            if dx is not None:
                tangent += function(dx, w, None, *args, **kwargs)
        elif dx is not None:
            tangent = function(dx, w, db, *args, **kwargs)
        else:
            return function(input, weight, bias, *args, **kwargs)
        return forward_ad.make_dual(value, tangent)

    return rule


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""With :math:`\hat x = (x - m) s` and :math:`a = w s`: :math:`a (dx - d_1 - \hat x d_2) + \hat x\, dw + db`.

    In training :math:`d_1` and :math:`d_2` are the means of dx and :math:`\hat x\, dx`, which autograd's backward pass
    takes as well; otherwise they are zero.
    """
    (x, dx), (w, dw), (b, db) = map(_parts, (input, weight, bias))
    value, mean, scale = torch.native_batch_norm(x, w, b, running_mean, running_var, training, momentum, eps)
    if running_mean is not None and running_var is not None and not training:
        mean, scale = running_mean, (running_var + eps).rsqrt()
    if dx is None and dw is None and db is None:
        return value
    slope, shift = (torch.zeros_like(mean) if part is None else part for part in (dw, db))
    a = scale if w is None else w * scale
    if dx is not None and training:
        along = dx if dx.stride() == x.stride() else torch.empty_like(x).copy_(dx)
        _, d2, d1 = torch.ops.aten.native_batch_norm_backward(
            along, x, w, running_mean, running_var, mean, scale, True, eps, [False, True, True]
        )
        rows = x.numel() // len(mean)
        slope, shift = slope - a * d2 / rows, shift - a * d1 / rows
    tangent = torch.native_batch_norm(x, slope, shift, mean, scale**-2, False, momentum, 0.0)[0]
    if dx is not None:
        tangent.addcmul_(dx, a.to(dx).view(-1, *[1] * (x.ndim - 2)))
    return forward_ad.make_dual(value, tangent)


def _parts(tensor: Tensor | None) -> tuple[Any, Tensor | None]:
    if tensor is None:
        return None, None
    primal, tangent = forward_ad.unpack_dual(tensor)
    return primal, tangent


_RULES: dict[Any, Rule] = {
    functional.batch_norm: _batch_norm,
    **{f: _affine(f) for f in (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)},
}
