r"""Two losses of labels that are worth different amounts, in closed form.

With :math:`V_{yb}` what deciding a row of target y as b is worth to the metric, :math:`W_{yb} = V_{yb} - \min_b V_{yb}`
and p a row's probabilities,

.. math:: \mathrm{UCE} = -\sum_b W_{yb} \log p_b, \qquad
    \mathrm{EXP} = \frac{r_y}{q} \Bigl(1 - \bigl(\tfrac{1}{r_y} \sum_b p_b W_{yb}\bigr)^q\Bigr), \qquad
    r_y = \max_b W_{yb}

UCE is convex, and the decision of largest p at its minimum is the one of largest expected utility; for accuracy it is
cross-entropy. EXP at q = 1 is what the metric is expected to lose; below 1 its gradient does not vanish on rows that
are surely wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-6


def utility_losses(logits: Tensor, utility: Tensor, weight: Tensor, q: float) -> tuple[Tensor, Tensor]:
    """UCE and EXP, 0-d, as functions of logits.

    Args:
        logits: ``(N, C)``.
        utility: ``(N, C)`` rows :math:`V_{y_i}` of the targets.
        weight: ``(N,)``.
        q: tail exponent in (0, 1].
    """
    worth, most = _worth(utility)
    logp = logits.log_softmax(1)
    quality = ((logp.exp() * worth).sum(1) / most).clamp(min=_LEAST)
    return -((worth * logp).sum(1) * weight).sum(), (most * (1 - quality**q) / q * weight).sum()


def utility_gradients(logits: Tensor, utility: Tensor, weight: Tensor, q: float) -> tuple[Tensor, Tensor]:
    """Their gradients in the logits, ``(N, C)`` each."""
    worth, most = _worth(utility)
    p = logits.softmax(1)
    total, expected = worth.sum(1, keepdim=True), (p * worth).sum(1, keepdim=True)
    quality = expected[:, 0] / most
    pull = torch.where(quality > _LEAST, quality.clamp(min=_LEAST) ** (q - 1) * weight, 0)
    return (total * p - worth) * weight[:, None], p * (expected - worth) * pull[:, None]


def _worth(utility: Tensor) -> tuple[Tensor, Tensor]:
    worth = utility - utility.amin(1, keepdim=True)
    return worth, worth.amax(1).clamp(min=1e-12)
