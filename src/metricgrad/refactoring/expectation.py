"""What soft decisions are expected to change: the mathematics that all local moves share."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.functional.interpolation import power_loss
from metricgrad.functional.leak import leak, margins


def expected_change(odds: Tensor, best: Tensor, span: Tensor, q: float) -> Tensor:
    """Sum over units (entries, rows) of the change their soft decision is expected to make.

    What is surely wrong keeps a gradient: see :mod:`metricgrad.functional.leak`.

    Args:
        odds: ``(U,)`` the logit of the unit's quality, its expected value between its worst (0) and its best decision
            (1).
        best: ``(U,)`` change of the metric at the unit's best decision.
        span: ``(U,)`` the difference between the best and the worst decision.
        q: tail exponent; at 1 this is the exact expectation, to first order over units.
    """
    return (best - span * (power_loss(odds.sigmoid(), q) - leak(odds))).sum()


def log_shares(scores: Tensor, softness: Tensor) -> Tensor:
    """Log-softmax of scores divided by the softness along the last axis, finite for finite scores of any size."""
    return margins(scores - scores.detach().amax(-1, keepdim=True), softness).log_softmax(-1)


def quality_odds(log_share: Tensor, worth: Tensor) -> Tensor:
    """The logit of the expected worth of a unit that decides among several, exact where its probabilities saturate.

    Args:
        log_share: ``(U, C)`` log-probabilities of its decisions, finite.
        worth: ``(U, C)`` what each is worth, from 0, for at least one of them, to 1, for at least one.
    """
    for_it, against = (log_share + worth.log()).logsumexp(-1), (log_share + (1 - worth).log()).logsumexp(-1)
    return for_it - against


def worths(change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(U, C)`` changes of the metric as worths from 0 to 1, ``(U,)`` the best change and ``(U,)`` best minus worst;
    a unit whose decisions are all alike has a worth of one half.
    """
    worst, best = change.amin(-1), change.amax(-1)
    span = best - worst
    worth = (change - worst[..., None]) / span.clamp(min=torch.finfo(span.dtype).tiny)[..., None]
    return torch.where(span[..., None] > 0, worth, 0.5), best, span


def bounded(scores: Tensor) -> Tensor:
    """Detached scores that leave room above and below the largest and the smallest: :func:`higher` stays finite."""
    scores = scores.detach()
    most = torch.finfo(scores.dtype).max * (1 - 1e-5)
    return scores.clamp(-most, most)


def higher(values: Tensor) -> Tensor:
    """Larger values: by one, or by as much as floats of that size can tell apart."""
    return values + (1e-6 * values.abs()).clamp(min=1.0)
