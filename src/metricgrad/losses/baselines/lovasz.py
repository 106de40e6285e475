"""The Lovász extension of the Jaccard loss: what a segmentation is trained with to be judged by mean IoU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.losses.baselines.base import LabelLoss
from metricgrad.losses.batches import Rows
from metricgrad.losses.registry import CLASSIFICATION, Entry, register


class Lovasz(LabelLoss):
    r"""Lovász hinge for yes-or-no targets, Lovász softmax for classes.

    .. math:: \overline{\Delta_J}(m) = \sum_i m_{\pi_i} \bigl(J(\pi_1 \dots \pi_i) - J(\pi_1 \dots \pi_{i-1})\bigr)

    with the errors m in descending order and J the Jaccard loss of a class when exactly those entries are wrong. The
    errors are :math:`\max(0, 1 - s (2 y - 1))` in the hinge and :math:`|y_c - p_c|` in the softmax, which is averaged
    over the classes that are among the targets.

    Use it where the metric is IoU and batches are large, after some training by cross-entropy or added to it. Not for
    images counted one by one: it counts the batch as one image.

    Without a positive of any class the value is zero with a zero gradient for classes and multilabel columns, and the
    largest hinge error for ``(N,)`` scores, whose Jaccard loss is then 1 as soon as one entry is wrong.

    Cost: one sort for each class, O(C N log N) time and O(N C) memory.

    Example:
        >>> float(Lovasz()(torch.tensor([2.0, -2.0, 0.0]), torch.tensor([1, 0, 0])))
        0.5

    References:
        M. Berman, A. R. Triki and M. B. Blaschko, "The Lovász-Softmax Loss: A Tractable Surrogate for the Optimization
        of the Intersection-over-Union Measure in Neural Networks", CVPR 2018, Eq. 8 to 12 and Algorithm 1.
        Deviation: columns of multilabel targets without a positive are left out, as are classes.
    """

    def of_rows(self, rows: Rows) -> Tensor:
        """0-d."""
        scores, targets, weights = rows.scores, rows.targets, rows.weight
        if rows.elementwise:
            truth = targets
            errors = (1 - scores * (2 * truth - 1)).relu()
        else:
            truth = nn.functional.one_hot(targets, scores.shape[1]).to(scores)
            errors = (truth - scores.softmax(1)).abs()
            weights = None if weights is None else weights[:, None].expand(truth.shape)
        if truth.ndim == 1:
            return lovasz_jaccard(errors, truth, weights)
        present = (truth if weights is None else truth * weights).sum(0) > 0
        if not bool(present.any()):
            return (scores * 0).sum()
        weights = None if weights is None else weights[:, present]
        return lovasz_jaccard(errors[:, present], truth[:, present], weights).mean()


def lovasz_jaccard(errors: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """The Lovász extension of the Jaccard loss at the errors of each column.

    Args:
        errors: ``(N,)`` or ``(N, C)``, non-negative.
        truth: 0 and 1, in their shape.
        weights: how often each entry counts, in their shape; ones by default.

    Returns:
        0-d or ``(C,)``.
    """
    ordered, order = errors.sort(0, descending=True)
    right = truth.gather(0, order)
    wrong = 1 - right
    if weights is not None:
        weights = weights.gather(0, order)
        right, wrong = right * weights, wrong * weights
    total = right.sum(0, keepdim=True)
    # with the first i entries wrong, the intersection lacks their positives and the union gains their negatives
    common, union = total - right.cumsum(0), total + wrong.cumsum(0)
    if weights is not None:  # what weighs nothing may come first, and is no error
        common, union = (torch.where(union > 0, count, 1) for count in (common, union))
    jaccard = 1 - common / union
    steps = torch.diff(jaccard, dim=0, prepend=torch.zeros_like(total))
    return (ordered * steps).sum(0)


register(
    "lovasz",
    Entry(
        Lovasz,
        CLASSIFICATION,
        "Lovász hinge or softmax: the convex extension of the Jaccard loss",
        standard=True,
    ),
)
