"""The gradient that a decision keeps however sure it is of the wrong side.

A soft decision is a sigmoid of its margin, and a sigmoid's derivative is 0 in floating point long before the margin
stops mattering: a network that is sure of its mistakes would never hear of them. Like a leaky ReLU, a soft decision
here keeps a small slope there. The slope belongs to a term of its own whose value is not counted, so that a loss stays
in the metric's units: the gradient of a loss L with soft decisions of margins z is that of

    L - sum_d LEAK * w_d * softplus(-z_d - START),    w_d = dL / d(soft decision d),

and within 20 of the threshold the second term is less than 1e-9 of the first one's slope at the threshold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAK = 0.05
"""The slope far on the wrong side; that of a sigmoid at its middle is 0.25."""

START = 40.0
"""Margin, in units of the softness, at which half of it is there: exp(-40) is below float64's precision."""

LIMIT = 1e30
"""Margins are held within this, so that they neither overflow nor cancel to NaN."""


def leak_rate(margin: Tensor) -> Tensor:
    """The slope that is added at each margin, without gradient: 0 to :data:`LEAK`, shaped like ``margin``."""
    return LEAK * (-margin.detach() - START).sigmoid()


def leak(margin: Tensor) -> Tensor:
    r"""Zeros with the gradient of :math:`-\mathrm{LEAK} \, \mathrm{softplus}(-z - \mathrm{START})`.

    Added to a soft decision it keeps a gradient on what is surely wrong.

    Args:
        margin: z, any shape, finite; positive where the decision is right.

    Example:
        >>> import torch
        >>> z = torch.tensor([-300.0, -5.0, 300.0], requires_grad=True)
        >>> leak(z).sum().backward()
        >>> [round(float(g), 4) for g in z.grad]
        [0.05, 0.0, 0.0]
    """
    return leak_rate(margin) * (margin - margin.detach())


def leaky_sigmoid(margin: Tensor) -> Tensor:
    """The sigmoid of a finite margin, with the gradient of :func:`leak` on top."""
    return margin.sigmoid() + leak(margin)


def margins(differences: Tensor, softness: Tensor) -> Tensor:
    """Differences of scores divided by the softness, held within :data:`LIMIT` in value but not in gradient.

    Args:
        differences: any shape; those of finite scores may have overflowed to infinity.
        softness: 0-d, positive.
    """
    return _Divided.apply(differences, softness)  # pyright: ignore[reportReturnType]


class _Divided(torch.autograd.Function):
    @staticmethod
    def forward(differences: Tensor, softness: Tensor) -> Tensor:
        return (differences / softness).clamp(-LIMIT, LIMIT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        softness, quotient = ctx.saved_tensors
        wants_differences, wants_softness = ctx.needs_input_grad
        return (
            grad / softness if wants_differences else None,
            -(grad * quotient).sum() / softness if wants_softness else None,
        )
