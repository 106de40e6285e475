"""Interpolation of a metric between configurations of its binaries."""

from __future__ import annotations

import torch
from torch import Tensor

_COINCIDE = 1e-24


def power_loss(quality: Tensor, q: float) -> Tensor:
    r"""Loss of a decision whose soft quality is p: :math:`1 - p^q`, which is q times the generalised cross-entropy.

    A decision that is surely right costs 0 and one that is surely wrong costs 1, as in the hard metric. At q = 1 it is
    the plain expectation, most robust to wrong labels; the smaller q, the less its gradient vanishes on decisions that
    are badly wrong, and its direction tends to that of the cross-entropy -log p.

    Args:
        quality: any shape, in [0, 1].
        q: in (0, 1].

    Returns:
        The shape of ``quality``, in [0, 1].

    References:
        Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
        NeurIPS 2018, Eq. 6.
    """
    if q == 1:
        return 1 - quality
    return 1 - quality.clamp(min=1e-12) ** q


def inverse_distance_weighting(squared_distances: Tensor, values: Tensor, power: float = 1.0) -> Tensor:
    r"""Interpolate between anchors by inverse distances, exactly as UniLoss's Eq. 10.

    .. math:: \tilde g(u) = \frac{\sum_i g(a_i) \, d_i^{-p}}{\sum_i d_i^{-p}}, \qquad d_i = \lVert u - a_i \rVert_2

    All weights are multiplied through by the smallest distance, so that nothing overflows. Where distances are below
    1e-12, the value is the mean over the anchors that coincide. The surface has a cusp there (for p = 1), whose slope
    is the same in all directions; the gradient returned is the pull of every other anchor by how much better it is
    than where we are, :math:`\sum_i (g(a_i) - \tilde g) \, \nabla d_i^{-p} / \sum_j d_j^{-p}`.

    Args:
        squared_distances: ``(T,)``, non-negative, differentiable.
        values: ``(T,)``, the metric at each anchor.
        power: p, positive; 1 in the paper.

    Returns:
        0-d. Cost: O(T).

    References:
        Liu, Wang and Deng, "UniLoss: Unified Surrogate Loss by Adaptive Interpolation", ECCV 2020, Eq. 10.
    """
    coincide = squared_distances <= _COINCIDE
    if bool(coincide.any()):
        here = values[coincide].mean() + 0.0 * squared_distances.sum()
        if bool(coincide.all()):
            return here
        log_weights = -0.5 * power * squared_distances[~coincide].log()
        weights = (log_weights - log_weights.detach().logsumexp(0)).exp()
        pull = (weights * (values[~coincide] - here.detach())).sum()
        return here + (pull - pull.detach())
    # d_i^-p up to a common factor; in logarithms, so that tiny distances neither overflow nor lose their gradient
    weights = (-0.5 * power * squared_distances.log()).softmax(0)
    return (weights * values).sum()


def released_gradient(squared_distances: Tensor, values: Tensor, power: float = 1.0) -> Tensor:
    r"""The value of :func:`inverse_distance_weighting` with the gradient of the released UniLoss scripts.

    With :math:`W = \sum_i g_i d_i^{-p}` and :math:`S = \sum_i d_i^{-p}` the gradient is
    :math:`\nabla W / S - W \nabla S / S^2`. The released scripts add the second term, so that every anchor attracts.
    Only for showing the effect of that error.

    Args:
        squared_distances: ``(T,)``, non-negative, differentiable.
        values: ``(T,)``.
        power: p.

    Returns:
        0-d.
    """
    weights = (-0.5 * power * squared_distances.clamp(min=torch.finfo(squared_distances.dtype).tiny).log()).exp()
    scale = weights.detach().sum()
    numerator, total = (weights / scale * values).sum(), (weights / scale).sum()
    # d(N) / T + N d(T) / T^2 with the value N / T: the second term enters with the wrong sign
    wrong = numerator / total.detach() + numerator.detach() * (total - total.detach()) / total.detach() ** 2
    value = inverse_distance_weighting(squared_distances.detach(), values, power)
    return value + (wrong - wrong.detach())
