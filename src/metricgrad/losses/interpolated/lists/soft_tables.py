r"""Metrics of yes or no in lists as a loss in closed form: each decision is worth what it changes among soft ones.

Of each list, such as a label's column, the table of targets and decisions is counted as the sigmoids of the scores say.
With :math:`d_i` what the metric is more with entry i decided as yes than as no,

.. math:: \sum_i \frac{|d_i|}{q} \bigl(1 - \sigma(s_i \operatorname{sign} d_i)^q\bigr)

is EXP of :mod:`metricgrad.losses.interpolated.expected_utility`; at q = 1 it is what the decisions are expected to
lose, to first order. Nothing is drawn and nothing remembered.
"""

from __future__ import annotations

import torch

from metricgrad.losses.interpolated.expected_utility import binary_losses, expected_gradient
from metricgrad.losses.interpolated.lists.entry_lists import EntryLists
from metricgrad.losses.interpolated.lists.list_losses import ListLoss, cross_entropy_gradient
from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch


@torch.no_grad()
def soft_tables(metric: Metric, batch: Batch, lists: EntryLists, *, q: float) -> ListLoss:
    """The loss of one batch.

    Cost: O(E + L), for E entries in L lists, and no wait.

    Args:
        metric: the mean of that of each list.
        batch: where the entries come from.
        lists: of all of them.
        q: tail exponent in (0, 1].
    """
    scores, targets = batch.scores.detach(), batch.targets.flatten().long()
    flat = wide(scores.flatten())
    yes = torch.stack([flat.sigmoid(), flat > 0, targets])
    cells = lists.cells(yes, targets)
    means, share = lists.means(cells[1:], yes[1:], targets)
    gain = lists.changes(cells[0], yes[0], targets, share)
    gain = (gain if metric.higher_is_better else -gain).to(scores.dtype).view(scores.shape)
    standard = cross_entropy_gradient(scores, batch.targets, batch.context.get("sample_weight"))
    return ListLoss(
        expected_gradient(scores, gain, q),
        lambda s: binary_losses(s, s, gain, 1.0, q)[1],
        gain.any(),
        means[0],
        means[1],
        standard,
    )
