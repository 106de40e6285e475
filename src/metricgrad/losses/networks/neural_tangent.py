r"""The derivative of a two-layer loss network along a direction, and its gradient, both written out.

With the activation's slope :math:`B_i = \gamma_i + (1 - \gamma_i)\, \sigma(\beta_i z_i)` and :math:`w_p` the column of
:math:`W_1` that reads the prediction p, the derivative along a tangent :math:`\dot p` is

.. math:: \dot p \sum_k w_{3k}\, B_{2k} \sum_j W_{2kj}\, w_{pj}\, B_{1j}.

Autograd would keep some sixty tensors of all pairs for its gradient; here ten are used up one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LINEAR_FROM = 50.0
_AT_ONCE = 640

Number = float | Tensor  # a tensor is 0-d


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
        """0-d; the gradients are taken at once, while everything is at hand."""
        bends = [*beta.unbind(), *gamma.unbind()]
        if beta.device.type == "cpu":  # of other devices they are not read
            bends = [float(bend) for bend in bends]
        total: list[Tensor] = []
        for some, moves in zip(pairs.split(_AT_ONCE), (moved / len(pairs)).split(_AT_ONCE), strict=True):
            found = _gradients(some, moves, w1, b1, w2, b2, w3, *bends)
            total = [a.add_(b) for a, b in zip(total, found, strict=True)] if total else list(found)
        ctx.gradients = total
        return torch.dot(ctx.gradients[4][0], w3[0])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator hides the names of arguments)
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the weights."""
        return None, None, *(gradient * grad_outputs[0] for gradient in ctx.gradients)


def _gradients(
    pairs: Tensor, weight: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor,
    beta1: Number, beta2: Number, gamma1: Number, gamma2: Number,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Of the sum over some pairs, each by its weight: of w1, b1, w2, b2, w3, beta and gamma."""
    by_prediction = w1[:, 1]
    through = w2 * by_prediction
    z1 = torch.addmm(b1, pairs, w1.t())
    sharp = z1 * beta1
    soft = torch.nn.functional.softplus(sharp, threshold=_LINEAR_FROM).div_(beta1)
    s1 = sharp.sigmoid_()
    bend1 = (s1 * (1 - gamma1)).add_(gamma1)
    a1 = torch.lerp(soft, z1, gamma1)
    z2 = torch.addmm(b2, a1, w2.t())
    s2 = (z2 * beta2).sigmoid_()
    bend2 = (s2 * (1 - gamma2)).add_(gamma2)
    inner = bend1 @ through.t()

    d_w3 = weight @ (bend2 * inner)
    d_inner = torch.outer(weight, w3[0])
    d_z2, d_beta2, d_gamma2 = _bent(inner.mul_(d_inner), s2, z2, beta2, gamma2)
    d_inner.mul_(bend2)
    d_through = d_inner.t() @ bend1
    d_w2 = torch.addmm(d_through * by_prediction, d_z2.t(), a1)
    d_a1 = d_z2 @ w2
    d_gamma1 = _dot(d_a1, z1) - (soft_part := _dot(d_a1, soft))
    d_z1, d_beta1, more = _bent(d_inner @ through, s1, z1, beta1, gamma1)
    d_beta1 = d_beta1 + (1 - gamma1) / beta1 * (_dot(z1.mul_(s1), d_a1) - soft_part)
    d_z1 += d_a1.mul_(bend1)
    d_w1 = d_z1.t() @ pairs
    d_w1[:, 1] += (d_through * w2).sum(0)
    d_beta, d_gamma = torch.stack([d_beta1, d_beta2]), torch.stack([d_gamma1 + more, d_gamma2])
    return d_w1, d_z1.sum(0), d_w2, d_z2.sum(0), d_w3[None], d_beta, d_gamma


def _bent(d_bend: Tensor, s: Tensor, z: Tensor, beta: Number, gamma: Number) -> tuple[Tensor, Tensor, Tensor]:
    """Through the activation's slope to z, beta and gamma; nothing is overwritten."""
    d_gamma = d_bend.sum() - _dot(d_bend, s)
    d_z = torch.addcmul(s, s, s, value=-1).mul_(d_bend).mul_((1 - gamma) * beta)
    return d_z, _dot(d_z, z) / beta, d_gamma


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.view(-1), b.view(-1))
