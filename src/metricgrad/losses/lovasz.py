"""The Lovász extension of the Jaccard loss: intersection over union, made convex in the errors of the pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.losses.batches import labelled


class Lovasz(nn.Module):
    r"""The Lovász-Softmax loss, and the Lovász hinge where scores and targets share their shape.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \sum_i m_{(i)} \bigl(\Delta_c(\{(1), \dots, (i)\})
        - \Delta_c(\{(1), \dots, (i - 1)\})\bigr)

    Errors m of class c stand in descending order, and :math:`\Delta_c` is 1 minus class c's intersection over union
    where exactly the pixels of the set are wrong. For classes an error is :math:`1 - p_{ic}` where c is the target and
    :math:`p_{ic}` elsewhere, and C are the classes that are targets; for one logit it is the positive part of
    :math:`1 - (2 t_i - 1) s_i`, column by column.

    Use it for intersection over union of segmentations, after or beside cross-entropy: it is known to need a start.
    Batches are read as one picture; pass one image at a time for the mean over images.

    Cost: O(C N log N) time and O(N C) memory.

    Raises:
        MetricgradError: for shapes that do not fit, or targets that are no labels.

    Example:
        >>> import torch
        >>> float(Lovasz()(torch.tensor([[9.0, -9], [-9, 9]]) * 9, torch.tensor([0, 1])))
        0.0

    References:
        M. Berman, A. Rannen Triki and M. B. Blaschko, "The Lovász-Softmax loss", CVPR 2018, Eq. 8 to 12. The hinge:
        J. Yu and M. B. Blaschko, "The Lovász Hinge", 2015.
    """

    def forward(self, scores: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: ``(N,)`` or ``(N, C)`` logits, or ``(B, H * W, C)``.
            targets: 0 and 1 in the shape of the scores, or class numbers.
            mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

        Returns:
            0-d, in the dtype of the scores; zero with a zero gradient for an empty batch.
        """
        dtype = scores.dtype
        scores, targets = labelled(scores, targets, mask)
        if not targets.numel():
            return (scores * 0).sum().to(dtype)
        if scores.shape == targets.shape:
            truth = targets.reshape(len(targets), -1)
            errors = (1 - (2 * truth - 1) * scores.reshape(truth.shape)).relu()
        else:
            present = targets.unique()
            truth = (targets[:, None] == present).to(scores.dtype)
            errors = (truth - scores.softmax(1)[:, present]).abs()
        return _extension(errors, truth).mean().to(dtype)


def _extension(errors: Tensor, truth: Tensor) -> Tensor:
    """``(K,)`` values for ``(N, K)`` errors and zeros and ones."""
    errors, order = errors.sort(0, descending=True)
    truth = truth.gather(0, order)
    positives = truth.sum(0)
    left = positives - truth.cumsum(0)
    union = positives + (1 - truth).cumsum(0)
    jaccard = 1 - left / union
    steps = torch.cat([jaccard[:1], jaccard.diff(dim=0)])
    return (errors * steps).sum(0)
