"""The Lovász extension of the Jaccard loss: what a segmentation is trained with to be judged by mean IoU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.losses.batches import labelled


class Lovasz(nn.Module):
    r"""Lovász hinge for yes-or-no targets, Lovász softmax for classes.

    .. math:: \overline{\Delta_J}(m) = \sum_i m_{\pi_i} \bigl(J(\pi_1 \dots \pi_i) - J(\pi_1 \dots \pi_{i-1})\bigr)

    with the errors m in descending order and J the Jaccard loss of a class when exactly those entries are wrong. The
    errors are :math:`\max(0, 1 - s (2 y - 1))` in the hinge and :math:`|y_c - p_c|` in the softmax, which is averaged
    over the classes that are among the targets.

    Use it where the metric is IoU and batches are large, after some training by cross-entropy or added to it. Not for
    images counted one by one: it counts the batch as one image.

    Cost: one sort for each class, O(C N log N) time and O(N C) memory.

    Example:
        >>> float(Lovasz()(torch.tensor([2.0, -2.0, 0.0]), torch.tensor([1, 0, 0])))
        0.5

    References:
        M. Berman, A. R. Triki and M. B. Blaschko, "The Lovász-Softmax Loss: A Tractable Surrogate for the Optimization
        of the Intersection-over-Union Measure in Neural Networks", CVPR 2018, Eq. 8 to 12 and Algorithm 1.
        Deviation: columns of multilabel targets without a positive are left out, as are classes.
    """

    def forward(self, scores: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: logits, any shape of :mod:`metricgrad.metric`: the classes are on the last axis.
            targets: classes from 0 for scores with one more axis, otherwise 0 and 1.
            mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

        Returns:
            0-d, in the dtype of the scores; without a positive of any class, zero with a zero gradient for classes and
            multilabel columns, and the largest hinge error for ``(N,)`` scores, whose Jaccard loss is then 1 as soon
            as one entry is wrong.
        """
        dtype = scores.dtype
        scores, targets = labelled(scores, targets, mask)
        if not targets.numel():
            return (scores * 0).sum().to(dtype)
        if scores.shape != targets.shape:
            truth = nn.functional.one_hot(targets, scores.shape[1]).to(scores)
            errors = (truth - scores.softmax(1)).abs()
        else:
            truth = targets
            errors = (1 - scores * (2 * truth - 1)).relu()
        if truth.ndim == 1:
            return lovasz_jaccard(errors, truth).to(dtype)
        present = truth.sum(0) > 0
        if not bool(present.any()):
            return (scores * 0).sum().to(dtype)
        return lovasz_jaccard(errors[:, present], truth[:, present]).mean().to(dtype)


def lovasz_jaccard(errors: Tensor, truth: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss at the errors of each column.

    Args:
        errors: ``(N,)`` or ``(N, C)``, non-negative.
        truth: 0 and 1, in their shape.

    Returns:
        0-d or ``(C,)``.
    """
    ordered, order = errors.sort(0, descending=True)
    right = truth.gather(0, order)
    total = right.sum(0, keepdim=True)
    # with the first i entries wrong, the intersection lacks their positives and the union gains their negatives
    jaccard = 1 - (total - right.cumsum(0)) / (total + (1 - right).cumsum(0))
    steps = torch.diff(jaccard, dim=0, prepend=torch.zeros_like(total))
    return (ordered * steps).sum(0)
