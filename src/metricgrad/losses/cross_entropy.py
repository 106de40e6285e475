"""Cross-entropy for every kind of classification, chosen by shape."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number, labelled

Weighting = Literal["balanced"]


class CrossEntropy(nn.Module):
    r"""The mean negative log-likelihood of the targets.

    .. math:: \frac1N \sum_i w_{y_i} \left(-\sum_c t_{ic} \log p_{ic}\right), \qquad
        t_{ic} = (1 - \epsilon)\,[c = y_i] + \epsilon / C

    p is the softmax of a row, or the sigmoid of an entry with C = 2 where scores and targets share their shape.

    Use it first: it is the loss people use today, it is calibrated, and every item has a gradient. Not where the metric
    rewards something else than likely labels, such as the top of a ranking.

    Args:
        weighting: None, or ``"balanced"``: :math:`w_c = N / (K n_c)` from the counts n of the batch, with K classes
            present, so that each class weighs the same. Same-shape targets have two classes in each column.
        label_smoothing: :math:`\epsilon` from 0 to 1.

    Cost: O(N C) time and memory.

    Raises:
        MetricgradError: for an option out of range.

    Example:
        >>> import torch
        >>> round(float(CrossEntropy()(torch.zeros(2), torch.tensor([0, 1]))), 4)
        0.6931

    References:
        I. J. Good, "Rational Decisions", Journal of the Royal Statistical Society B, 1952. Balanced weights: G. King
        and L. Zeng, "Logistic Regression in Rare Events Data", Political Analysis, 2001. Smoothing: C. Szegedy,
        V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception Architecture for Computer Vision",
        CVPR 2016. A weight multiplies the whole term of its item, the smoothed part too; torch's weighs each class in
        the smoothed part by its own.
    """

    def __init__(self, *, weighting: Weighting | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if weighting not in (None, "balanced"):
            raise MetricgradError(f"weighting is {weighting!r}; expected None or 'balanced'")
        self.weighting = weighting
        self.label_smoothing = checked_number("label_smoothing", label_smoothing, zero=True, most=1.0)

    def forward(self, scores: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: ``(N,)`` or ``(N, C)`` logits.
            targets: ``(N,)`` or ``(N, C)``, 0 and 1; or ``(N,)`` class numbers for ``(N, C)`` scores.
            mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

        Returns:
            0-d, in the dtype of the scores; zero with a zero gradient for an empty batch.
        """
        dtype = scores.dtype
        scores, targets = labelled(scores, targets, mask)
        if not targets.numel():
            return (scores * 0).sum().to(dtype)
        if scores.shape == targets.shape:
            smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            each = nn.functional.binary_cross_entropy_with_logits(scores, smoothed, reduction="none")
        else:
            each = nn.functional.cross_entropy(scores, targets, reduction="none", label_smoothing=self.label_smoothing)
        if self.weighting == "balanced":
            each = each * _balanced(scores, targets)
        return each.mean().to(dtype)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"weighting={self.weighting!r}, label_smoothing={self.label_smoothing:g}"


def _balanced(scores: Tensor, targets: Tensor) -> Tensor:
    """The weight of each target."""
    if scores.shape != targets.shape:
        counts = torch.bincount(targets, minlength=scores.shape[1])[targets]
        present = targets.unique().numel()
    else:
        ones = targets.sum(0)
        zeros = len(targets) - ones
        counts = torch.where(targets > 0, ones, zeros)
        present = (ones > 0).to(scores) + (zeros > 0).to(scores)
    return len(targets) / (present * counts.to(scores.dtype))
