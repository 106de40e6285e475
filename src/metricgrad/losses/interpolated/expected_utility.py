r"""Two losses of labels that are worth different amounts, in closed form.

With :math:`V_{yb}` what deciding a row of target y as b is worth to the metric, :math:`W_{yb} = V_{yb} - \min_b V_{yb}`
and p a row's probabilities,

.. math:: \mathrm{UCE} = -\sum_b W_{yb} \log p_b, \qquad
    \mathrm{EXP} = \frac{r_y}{q} \Bigl(1 - \bigl(\tfrac{1}{r_y} \sum_b p_b W_{yb}\bigr)^q\Bigr), \qquad
    r_y = \max_b W_{yb}

UCE is convex, and the decision of largest p at its minimum is the one of largest expected utility; for accuracy it is
cross-entropy. EXP at q = 1 is what the metric is expected to lose; below 1 its gradient does not vanish on rows that
are surely wrong.

Of one score a row, which stands against 0, :math:`d_y = V_{y1} - V_{y0}` says all: W is d where it is above 0, or -d at
the other class.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-6

Weight = Tensor | float


def utility_losses(logits: Tensor, worth: Tensor, weight: Weight, q: float) -> tuple[Tensor, Tensor]:
    """UCE and EXP, 0-d, as functions of logits.

    Args:
        logits: ``(N, C)``.
        worth: ``(N, C)`` rows :math:`W_{y_i}` of the targets.
        weight: ``(N,)``, or one of all rows.
        q: tail exponent in (0, 1].
    """
    most = worth.amax(1).clamp(min=1e-12)
    logp = logits.log_softmax(1)
    quality = ((logp.exp() * worth).sum(1) / most).clamp(min=_LEAST)
    return -((worth * logp).sum(1) * weight).sum(), (most * (1 - quality**q) / q * weight).sum()


def utility_gradients(p: Tensor, worth: Tensor, most: Tensor, weight: Weight, q: float) -> tuple[Tensor, Tensor]:
    """Their gradients in the logits, ``(N, C)`` each.

    Args:
        p: ``(N, C)`` probabilities.
        worth: as in :func:`utility_losses`, as all else.
        most: ``(N, 1)`` the largest worth of each row, at least 1e-12.
        weight: likewise.
        q: likewise.
    """
    expected = p * worth
    total, mean = worth.sum(1, keepdim=True), expected.sum(1, keepdim=True)
    less = -weight[:, None] if isinstance(weight, Tensor) else -weight
    quality = mean / most
    pull = (quality ** (q - 1)).masked_fill_(quality <= _LEAST, 0.0).mul_(less)
    uce = torch.addcmul(worth, p, total, value=-1).mul_(less)
    exp = torch.addcmul(expected, p, mean, value=-1).mul_(pull)
    return uce, exp


def binary_losses(scores: Tensor, shifted: Tensor, gain: Tensor, weight: Weight, q: float) -> tuple[Tensor, Tensor]:
    """UCE, 0-d, of ``(N,)`` scores, and EXP of shifted ones; ``gain`` is d of each row's target."""
    size, toward = gain.abs(), gain.sign()
    uce = size * torch.nn.functional.softplus(-toward * scores)
    quality = (toward * shifted).sigmoid().clamp(min=_LEAST)
    return (uce * weight).sum(), (size * (1 - quality**q) / q * weight).sum()


def binary_gradients(scores: Tensor, turned: Tensor, gain: Tensor, weight: Weight, q: float) -> tuple[Tensor, Tensor]:
    """Their gradients, ``(N,)`` each; shifted scores come turned round."""
    pulled = gain * -weight
    away = pulled.sign()
    wrong, quality = torch.stack([scores, turned]).mul_(away).sigmoid_().unbind()
    return pulled * wrong, _steepness(quality, q).mul_(pulled)


def expected_gradient(scores: Tensor, gain: Tensor, q: float) -> Tensor:
    """The gradient of EXP alone, of scores that are not shifted and rows that weigh 1; any shape."""
    return _steepness((scores * gain.sign()).sigmoid_(), q).mul_(gain).neg_()


def _steepness(quality: Tensor, q: float) -> Tensor:
    """How much EXP of a gain of 1 falls as the score rises."""
    power = torch.nn.functional.threshold(quality, _LEAST, 0.0) ** q
    return torch.addcmul(power, power, quality, value=-1)
