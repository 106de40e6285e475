r"""The log-odds of each class under a softmax over its row, and their gradient in closed form.

.. math:: o_c = s_c - \log \sum_{j \ne c} e^{s_j}, \qquad
          \sum_c g_c \frac{\partial o_c}{\partial s_j} = g_j - p_j \sum_{c \ne j} \frac{g_c}{1 - p_c}

The class in front, t, is taken by itself, because :math:`1 - p_t` is not known from :math:`p_t` where it is small:
:math:`p_j / (1 - p_t)` is the softmax of the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from metricgrad.precision import place_for, wide

_KEPT_BITS = 41


def log_odds_of_rows(scores: Tensor) -> Tensor:
    """``(..., C)`` of as many logits, C from 2, in their dtype.

    Rounded to the precision of the scores, in value and not in gradient, so that rows whose odds are equal tie: the sum
    over j comes out differently in its last digits where its terms stand in another order.

    Example:
        >>> log_odds_of_rows(torch.tensor([[3.0, 1.0, -400.0]]))
        tensor([[   2.0000,   -2.0000, -403.1269]])
    """
    return cast(Tensor, _LogOdds.apply(scores))


class _Shares(NamedTuple):
    """What odds and their gradient are made of, all wide.

    Attributes:
        top: ``(..., 1)`` the class in front.
        log_share: ``(..., C)`` the logarithm of each probability.
        share: the probability.
        rest: that of all others, one half or more; infinite for the class in front.
        behind: the logarithms again, the class in front left out.
    """

    top: Tensor
    log_share: Tensor
    share: Tensor
    rest: Tensor
    behind: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> _Shares:
        """Of logits."""
        log_share, top = wide(scores).log_softmax(-1), scores.argmax(-1, keepdim=True)
        share = log_share.exp()
        rest = (1 - share).scatter(-1, top, torch.inf)
        return cls(top, log_share, share, rest, log_share.scatter(-1, top, -torch.inf))

    def odds(self, dtype: torch.dtype) -> Tensor:
        """The log-odds, in a dtype, in no more of its bits than those in which all orders of the terms agree."""
        others = self.rest.log().scatter(-1, self.top, self.behind.logsumexp(-1, keepdim=True))
        if others.dtype != torch.float64 or dtype != torch.float64:
            return torch.sub(self.log_share, others, out=torch.empty_like(others, dtype=dtype))
        odds = self.log_share - others
        carry = odds * (2.0 ** (53 - _KEPT_BITS) + 1)  # Veltkamp's splitting
        high = carry - (carry - odds)
        return torch.where(high == high, high, odds)

    def pulled(self, slope: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient in the scores of a sum of which ``slope`` is that in the log-odds."""
        each = slope / self.rest
        found = torch.addcmul(slope, self.behind.softmax(-1), slope.gather(-1, self.top), value=-1)
        return torch.addcmul(found, self.share, each.sum(-1, keepdim=True) - each, value=-1, out=out)


class _LogOdds(torch.autograd.Function):
    """See :func:`log_odds_of_rows`; in the backward pass of a backward pass the shares are functions of the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        """The log-odds."""
        ctx.save_for_backward(scores)
        ctx.shares = _Shares.of(scores)
        return ctx.shares.odds(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """The scores' gradient."""
        (scores,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _Shares.of(scores).pulled(grads[0]).to(scores.dtype)
        return ctx.shares.pulled(grads[0], out=place_for(scores, grads[0])).to(scores.dtype)
