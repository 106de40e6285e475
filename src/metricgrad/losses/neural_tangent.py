r"""The derivative of a two-layer loss network along a direction, and its gradient, both written out.

With :math:`s` the sigmoid at :math:`\beta z` and the activation's slope :math:`B = \gamma + (1 - \gamma) s`, a tangent
:math:`v` passes a layer as :math:`W (B v)`. Autograd would keep some sixty tensors of all pairs for it; here it is ten.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LINEAR_FROM = 50.0


class Along(torch.autograd.Function):
    r"""The mean over pairs of :math:`\partial \ell / \partial p` times the tangent of p; once differentiable.

    Args (of ``apply``):
        pairs: ``(M, 2)`` targets and predictions.
        moved: ``(M,)`` tangents of the predictions.
        w1, b1, w2, b2, w3: weights and biases of the layers; the last bias has no part.
        beta, gamma: ``(2,)``.
    """

    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, moved: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor,
        beta: Tensor, gamma: Tensor,
    ) -> Tensor:  # fmt: skip
        """0-d."""
        (beta1, beta2), (gamma1, gamma2) = beta.tolist(), gamma.tolist()
        z1 = torch.addmm(b1, pairs, w1.t())
        u1 = z1 * beta1
        s1 = u1.sigmoid()
        soft = torch.nn.functional.softplus(u1, threshold=_LINEAR_FROM).div_(beta1)
        a1 = torch.lerp(soft, z1, gamma1)
        v1 = torch.outer(moved, w1[:, 1])
        h1 = (s1 * (1 - gamma1)).add_(gamma1).mul_(v1)
        z2 = torch.addmm(b2, a1, w2.t())
        v2 = h1 @ w2.t()
        s2 = (z2 * beta2).sigmoid_()
        h2 = (s2 * (1 - gamma2)).add_(gamma2).mul_(v2)
        ctx.save_for_backward(pairs, moved, w2, w3, beta, gamma, z1, s1, soft, a1, v1, h1, z2, v2, s2, h2)
        return (h2 @ w3[0]).mean()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator hides the names of arguments)
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the weights."""
        (grad,) = grad_outputs
        pairs, moved, w2, w3, beta, gamma, z1, s1, soft, a1, v1, h1, z2, v2, s2, h2 = ctx.saved_tensors
        (beta1, beta2), (gamma1, gamma2) = beta.tolist(), gamma.tolist()
        top = w3[0] * (grad / len(pairs))
        d_w3 = h2.sum(0, keepdim=True) * (grad / len(pairs))
        d_v2 = (s2 * (1 - gamma2)).add_(gamma2).mul_(top)
        d_z2, d_beta2, d_gamma2 = _bend(v2 * top, s2, z2, beta2, gamma2)
        d_w2 = d_z2.t() @ a1 + d_v2.t() @ h1
        d_h1, d_a1 = d_v2 @ w2, d_z2 @ w2
        d_z1, d_beta1, d_gamma1 = _bend(d_h1 * v1, s1, z1, beta1, gamma1)
        slope = (s1 * (1 - gamma1)).add_(gamma1)
        d_v1 = d_h1.mul_(slope)
        d_z1 += slope.mul_(d_a1)
        d_gamma1 = d_gamma1 + _dot(d_a1, z1) - _dot(d_a1, soft)
        d_beta1 = d_beta1 + (1 - gamma1) / beta1 * (_dot(d_a1 * z1, s1) - _dot(d_a1, soft))
        d_w1 = d_z1.t() @ pairs
        d_w1[:, 1] += moved @ d_v1
        d_beta, d_gamma = torch.stack([d_beta1, d_beta2]), torch.stack([d_gamma1, d_gamma2])
        return None, None, d_w1, d_z1.sum(0), d_w2, d_z2.sum(0), d_w3, d_beta, d_gamma


def _bend(d_slope: Tensor, s: Tensor, z: Tensor, beta: float, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Through the activation's slope to z, beta and gamma."""
    d_gamma = d_slope.sum() - _dot(d_slope, s)
    d_u = torch.addcmul(s, s, s, value=-1).mul_(d_slope).mul_(1 - gamma)
    d_beta = _dot(d_u, z)
    return d_u.mul_(beta), d_beta, d_gamma


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())
