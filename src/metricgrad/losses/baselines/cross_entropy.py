"""Cross-entropy for every kind of classification, chosen by shape."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines.base import LabelLoss
from metricgrad.losses.batches import Rows, checked_number
from metricgrad.losses.registry import ANSWER_SPANS, CLASSIFICATION, Entry, register

Weighting = Literal["balanced"]


class CrossEntropy(LabelLoss):
    r"""The mean negative log-likelihood of the targets.

    .. math:: \frac1N \sum_i w_{y_i} \left(-\sum_c t_{ic} \log p_{ic}\right), \qquad
        t_{ic} = (1 - \epsilon)\,[c = y_i] + \epsilon / C

    p is the softmax of a row, or the sigmoid of an entry with C = 2 where scores and targets share their shape.

    Use it first: it is the loss people use today, it is calibrated, and every item has a gradient. Not where the metric
    rewards something else than likely labels, such as the top of a ranking.

    Args:
        weighting: None, or ``"balanced"``: :math:`w_c = N / (K n_c)` from the counts n of the batch, with K classes
            present and ``sample_weight`` counted, so that each class weighs the same. Same-shape targets have two
            classes in each column.
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

    def of_rows(self, rows: Rows) -> Tensor:
        """0-d."""
        scores, targets = rows.scores, rows.targets
        if rows.elementwise:
            if self.label_smoothing:
                targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            each = nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        else:
            each = nn.functional.cross_entropy(scores, targets, reduction="none", label_smoothing=self.label_smoothing)
        if self.weighting == "balanced":
            each = each * _balanced(rows)
        return rows.mean(each)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"weighting={self.weighting!r}, label_smoothing={self.label_smoothing:g}"


def _balanced(rows: Rows) -> Tensor:
    """The weight of each target."""
    targets, weights = rows.targets, rows.weights
    if rows.elementwise:
        ones, zeros = (weights * targets).sum(0), (weights * (1 - targets)).sum(0)
        counts, total = torch.where(targets > 0, ones, zeros), ones + zeros
        present = (ones > 0).to(weights) + (zeros > 0).to(weights)
    else:
        of_class = weights.new_zeros(rows.scores.shape[1]).index_add(0, targets, weights)
        counts, total, present = of_class[targets], of_class.sum(), (of_class > 0).sum()
    return torch.where(counts > 0, total / (present * torch.where(counts > 0, counts, 1)), 0)


register(
    "cross_entropy",
    Entry(
        CrossEntropy,
        CLASSIFICATION | ANSWER_SPANS,
        "log-likelihood of the targets; weighting=balanced, label_smoothing=0.1",
        standard=True,
    ),
)
