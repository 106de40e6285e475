r"""The share of rows whose target is among the first k classes, as a loss of rows in closed form.

.. math:: \mathrm{HIT} = \sum_i w_i \bigl(1 - \sigma(m_i)^q\bigr), \qquad m_i = (s_{i y_i} - s_{i (k)}) / \tau

with :math:`s_{(k)}` the k-th largest of the other classes, and the leak of :mod:`metricgrad.functional.leak` on rows
that are surely wrong. It is what local interpolation makes of the metric when it tries every row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.functional.interpolation import power_loss
from metricgrad.functional.leak import LIMIT, leak, leak_rate, margins
from metricgrad.losses.interpolated.batch_losses import OVER_TO_METRIC, BatchLosses
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.top_k import TopK

_LEAST = 1e-12


@torch.no_grad()
def hit_losses(metric: Metric, batch: Batch, refactoring: TopK, *, softness: float, q: float) -> BatchLosses:
    """Of ``(N, C)`` scores; rows weigh as ``sample_weight`` says."""
    scores, targets = batch.scores.detach(), batch.targets.long()
    given = batch.context.get("sample_weight")
    weight = scores.new_ones(len(targets)) if given is None else given.to(scores.dtype)
    weight = weight / weight.sum()
    kth, share = refactoring.kth_others(scores, targets)
    index = targets[:, None]
    margin = ((scores.gather(1, index)[:, 0] - kth) / softness).clamp(-LIMIT, LIMIT)
    quality = margin.sigmoid()
    steep = torch.where(quality > _LEAST, q * quality.clamp(min=_LEAST) ** q * (1 - quality), 0)
    pull = weight * (steep + leak_rate(margin)) / softness
    gradient = (share * pull[:, None]).scatter_add_(1, index, -pull[:, None])
    slope = scores.softmax(1).mul_(weight[:, None]).scatter_add_(1, index, -weight[:, None])

    def losses(scores: Tensor) -> tuple[Tensor]:
        odds = margins(refactoring.comparisons(scores, targets), scores.new_full((), softness))
        return ((weight * (power_loss(odds.sigmoid(), q) - leak(odds))).sum(),)

    away = 1 - batch.values(metric, scores[None])[0]
    return BatchLosses((gradient,), losses, away, OVER_TO_METRIC, slope)
