"""Temperature scaling: the one number that makes a model's probabilities as sharp as its errors allow."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.precision import wide

_STEPS = 30


@torch.no_grad()
def inverse_temperature(scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> float:
    r"""The :math:`\beta > 0` with the least cross-entropy of ``softmax(beta * scores)``; 1 where it is not defined.

    The cross-entropy is convex in :math:`\beta`, so Newton's steps, halved while they do not descend, find it.

    Args:
        scores: ``(N, C)`` logits.
        targets: ``(N,)`` classes.
        weight: ``(N,)`` of the rows; ones by default.

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    """
    scores = wide(scores)
    right = scores.gather(1, targets[:, None])[:, 0]
    share = torch.ones_like(right) if weight is None else wide(weight)
    share = share / share.sum()

    def loss(beta: float) -> float:
        return float(share @ (torch.logsumexp(beta * scores, 1) - beta * right))

    beta, now = 1.0, loss(1.0)
    for _ in range(_STEPS):
        p = (beta * scores).softmax(1)
        mean = (p * scores).sum(1)
        slope = float(share @ (mean - right))
        bend = float(share @ ((p * scores.square()).sum(1) - mean.square()))
        if not bend > 0:
            break
        step = max(min(slope / bend, 0.9 * beta), -4 * beta)
        while (then := loss(beta - step)) > now and abs(step) > 1e-9:
            step /= 2
        beta, now = (beta - step, then) if then < now else (beta, now)
        if abs(step) <= 1e-6 * beta:
            break
    return beta
