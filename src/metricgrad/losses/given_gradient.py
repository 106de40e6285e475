"""A value whose gradient in the scores is known beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metricgrad.precision import place_for

Again = Callable[[Tensor, Sequence[Tensor]], Tensor]


class GivenGradient(torch.autograd.Function):
    """A value whose gradient in the scores is given; computed again, with graph, only where it is differentiated.

    Args (of ``apply``):
        shown: a number or 0-d, the value; or ``(n,)`` of as many batches, which the scores' first axis counts.
        gradient: in the shape of the scores; the value has its dtype.
        again: the gradient, of the values' sum, as a function of the scores and of the parameters.
        scores: with graph.
        parameters: which must not be written into before the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, shown: Tensor | float, gradient: Tensor, again: Again, scores: Tensor, *parameters: Tensor
    ) -> Tensor:
        """The value."""
        ctx.gradient, ctx.again = gradient, again
        ctx.save_for_backward(scores, *parameters)
        return shown.clone() if isinstance(shown, Tensor) else scores.new_full((), shown, dtype=gradient.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The scores' gradient; parameters have none."""
        (factor,) = grads
        scores, *parameters = ctx.saved_tensors
        if factor.ndim:
            factor = factor.view(*factor.shape, *[1] * (scores.ndim - factor.ndim))
        if torch.is_grad_enabled():
            found = factor * ctx.again(scores, parameters)
        elif ctx.gradient.dtype == scores.dtype:
            found = factor * ctx.gradient
        else:
            found = torch.mul(factor, ctx.gradient, out=place_for(scores, factor)).to(scores.dtype)
        return None, None, None, found, *(None for _ in parameters)
