"""The logistic loss of every positive against every negative, in near-linear time."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from metricgrad.functional.kernels import SOFTPLUS
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.baselines.base import LabelLoss
from metricgrad.losses.batches import Rows, checked_number, mean_of_lists
from metricgrad.losses.registry import ONE_SCORE, SOFTNESS, Entry, register


class PairwiseLogistic(LabelLoss):
    r"""The mean over pairs of a positive score s and a negative score t.

    .. math:: \frac{1}{PN} \sum_{i=1}^{P} \sum_{j=1}^{N} \mathrm{softplus}\left(\frac{t_j - s_i}{\tau}\right)

    Use it where the metric is AUROC: it is convex in the scores, consistent with AUROC, and no pair of the wrong order
    saturates. Not for the top of a ranking, since all pairs weigh the same, nor for labels at a fixed threshold, since
    a shift of all scores changes nothing.

    Args:
        softness: :math:`\tau`, above 0, in units of the scores.

    Cost: O(N + R log R) time and memory for each column, R = range of the scores / (0.125 softness).

    Raises:
        MetricgradError: for a softness out of range.

    Example:
        >>> import torch
        >>> round(float(PairwiseLogistic()(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 1, 0]))), 4)
        0.5032

    References:
        C. Burges, T. Shaked, E. Renshaw, A. Lazier, M. Deeds, N. Hamilton and G. Hullender, "Learning to Rank using
        Gradient Descent", ICML 2005, Eq. 3. Consistency: W. Gao and Z.-H. Zhou, "On the Consistency of AUC Pairwise
        Optimization", IJCAI 2015.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"sample_weight", "groups"})

    def __init__(self, *, softness: float = 1.0) -> None:
        super().__init__()
        self.softness = checked_number("softness", softness)

    def of_rows(self, rows: Rows) -> Tensor:
        """0-d: the mean over columns, or queries, that have both positives and negatives."""
        return mean_of_lists(self._list, rows)

    def _list(self, scores: Tensor, positive: Tensor, weight: Tensor | None) -> Tensor:
        scores = scores / self.softness
        above, below = scores[positive], scores[~positive]
        if weight is None:
            return pair_sum(below, above, kernel=SOFTPLUS).mean() / len(above)
        high, low = weight[positive] / weight[positive].sum(), weight[~positive] / weight[~positive].sum()
        return (pair_sum(below, above, high, kernel=SOFTPLUS) * low).sum()

    def extra_repr(self) -> str:
        """Its settings."""
        return f"softness={self.softness:g}"


register(
    "pairwise_logistic",
    Entry(
        PairwiseLogistic,
        ONE_SCORE,
        "logistic loss of every positive against every negative",
        standard=True,
        space={"softness": SOFTNESS},
    ),
)
