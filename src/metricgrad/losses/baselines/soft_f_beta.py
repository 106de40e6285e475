"""F-beta of a batch with probabilities in place of decisions."""

from __future__ import annotations

from torch import Tensor, nn

from metricgrad.losses.baselines.base import LabelLoss
from metricgrad.losses.batches import Rows, checked_number
from metricgrad.losses.registry import CLASSIFICATION, Entry, register


class SoftFBeta(LabelLoss):
    r"""One minus F-beta of expected counts, macro over classes or columns.

    .. math:: 1 - \frac{(1 + \beta^2) \sum_i p_i y_i}{\beta^2 \sum_i y_i + \sum_i p_i}

    Use it where the metric is F-beta or Dice and batches are large. Not for batches of few positives: it is a ratio of
    batch sums, so its mean over batches is not its value on their union; and it does not calibrate.

    Classes and columns without a positive, whose F-beta is 0 whatever the scores, are left out of the mean; where none
    is left, the value is zero with a zero gradient.

    Args:
        beta: above 0; how much more recall weighs than precision.

    Cost: O(N C) time and memory.

    Raises:
        MetricgradError: for a beta out of range.

    Example:
        >>> import torch
        >>> float(SoftFBeta()(torch.zeros(2), torch.tensor([0, 1])))
        0.5

    References:
        M. Jansche, "Maximum Expected F-Measure Training of Logistic Regression Models", HLT/EMNLP 2005. F. Milletari,
        N. Navab and S.-A. Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
        Segmentation", 3DV 2016, squares the probabilities of the denominator; here they stand as they are.
    """

    def __init__(self, *, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = checked_number("beta", beta)

    def of_rows(self, rows: Rows) -> Tensor:
        """0-d."""
        scores, targets, weights = rows.scores, rows.targets, rows.weight
        if rows.elementwise:
            probabilities = scores.sigmoid()
        else:
            probabilities = scores.softmax(1)
            targets = nn.functional.one_hot(targets, scores.shape[1]).to(scores)
            weights = None if weights is None else weights[:, None]
        truth, predicted = (x if weights is None else weights * x for x in (targets, probabilities))
        positives = truth.sum(0)
        present = positives > 0
        if not bool(present.any()):
            return (scores * 0).sum()
        weight = self.beta**2
        hits = (predicted * targets).sum(0)
        return (1 - (1 + weight) * hits[present] / (weight * positives + predicted.sum(0))[present]).mean()

    def extra_repr(self) -> str:
        """Its settings."""
        return f"beta={self.beta:g}"


register(
    "soft_f_beta",
    Entry(
        SoftFBeta,
        CLASSIFICATION,
        "F-beta of a batch with probabilities in place of decisions",
        standard=True,
    ),
)
