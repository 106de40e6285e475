r"""The values of a family's loss of class targets and their gradients in the logits, in closed form.

With L the log-probabilities, e the row of the target's class and :math:`a_c = q`-bent slopes :math:`-e^{q L_c}`, the
bracket B of a row of weight w and focus :math:`f = (1 - p_y)^\gamma` has the gradient

.. math:: w f \Bigl[ G - p \sum_c G_c \Bigr] + w f B \gamma\, p_y (r - e), \qquad
    G = (1 - \epsilon)\, a_y e + \frac{\epsilon}{C} a

in the logits, with r the softmax over the other classes. Autograd takes three times as many operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

_LEAST = 1e-12

Number = float | Tensor  # a tensor is (N, 1)


def values_and_gradients(
    scores: Tensor, labels: Tensor, knobs: Mapping[str, Number], log_rates: Tensor | None, log_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``(N, 1)`` of each row, and in the shape of the scores.

    Args:
        scores: ``(N, C)``, without graph.
        labels: ``(N, 1)`` int64.
        knobs: by their names; those left out are 0.
        log_rates: ``(C,)``, the logs of the class rates, where ``adjustment`` is among the knobs.
        log_weights: ``(N, 1)``, the logs of the rows' weights, or None where they are 1.
    """
    exponent, focus, smoothing, adjustment = map(knobs.get, ("exponent", "focus", "smoothing", "adjustment"))
    if adjustment is not None and log_rates is not None:
        scores = scores + adjustment * log_rates
    logs = scores.log_softmax(-1)
    own = logs.gather(1, labels)
    each, slope = _bent(own, exponent)
    slopes = others = None
    if smoothing is not None:
        every, slopes = _bent(logs, exponent)
        each = torch.lerp(each, every.mean(-1, keepdim=True), smoothing)
        slope, slopes = slope * (1 - smoothing), slopes * (smoothing / scores.shape[1])
    if focus is not None:
        others = scores.scatter(1, labels, -torch.inf)
        of_others = others.logsumexp(1, keepdim=True)
        log_focus = focus * functional.logsigmoid(of_others - scores.gather(1, labels))
        log_weights = log_focus if log_weights is None else log_focus + log_weights
        others.sub_(of_others).exp_()
    if log_weights is not None:
        weight = log_weights.exp()
        each, slope, slopes = each * weight, slope * weight, None if slopes is None else slopes * weight
    if slopes is None:
        gradient = logs.exp().mul_(-slope)
    else:
        gradient = torch.addcmul(slopes, logs.exp(), slope + slopes.sum(-1, keepdim=True), value=-1)
    if others is not None and focus is not None:
        pull = each * own.exp() * focus
        gradient.addcmul_(others, pull)
        slope = slope - pull
    return each, gradient.scatter_add_(1, labels, slope)


def knob_of(values: Sequence[Tensor], rows: int, dtype: torch.dtype) -> Number | None:
    """A knob of some forms, each of which has so many rows; None where it is 0 in all."""
    if len(values) == 1:
        return float(values[0]) or None
    stack = torch.stack([*values]).to(dtype)
    return stack.repeat_interleave(rows)[:, None] if bool(stack.any()) else None


def log_balance(log_rates: Tensor, balance: Number) -> Tensor:
    """The logs of the classes' weights: the more the rarer, their mean over the items 1."""
    found = -balance * log_rates
    return found - (log_rates + found).logsumexp(-1, keepdim=True)


def log_weights_of_rows(
    labels: Tensor, log_rates: Tensor | None, balance: Number | None, own: Sequence[Tensor]
) -> Tensor | None:
    """``(N, 1)``, of what each class weighs by its rate and by itself in one of several forms; None where all are 1."""
    found = None
    if balance is not None and log_rates is not None:
        by_rate = log_balance(log_rates, balance)
        found = by_rate[labels] if by_rate.ndim == 1 else by_rate.gather(1, labels)
    if own:
        by_itself = torch.stack([*own]).gather(1, labels.view(len(own), -1)).view(-1, 1)
        found = by_itself if found is None else found + by_itself
    return found


def _bent(logs: Tensor, exponent: Number | None) -> tuple[Tensor, Tensor]:
    """g_q of log-probabilities, and its slope in them."""
    if exponent is None:
        return -logs, torch.full_like(logs, -1.0)
    exponent = exponent.clamp(min=_LEAST) if isinstance(exponent, Tensor) else max(exponent, _LEAST)
    x = logs * exponent
    return torch.expm1(x) / -exponent, x.exp_().neg_()
