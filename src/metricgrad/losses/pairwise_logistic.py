"""The logistic loss of every positive against every negative, in near-linear time."""

from __future__ import annotations

from torch import Tensor, nn

from metricgrad.functional.kernels import SOFTPLUS
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.batches import checked_number, labelled, mean_of_columns


class PairwiseLogistic(nn.Module):
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

    def __init__(self, *, softness: float = 1.0) -> None:
        super().__init__()
        self.softness = checked_number("softness", softness)

    def forward(self, scores: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: ``(N,)`` or ``(N, C)`` logits, finite.
            targets: ``(N,)`` or ``(N, C)``, 0 and 1; or ``(N,)`` class numbers for ``(N, C)`` scores.
            mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

        Returns:
            0-d, in the dtype of the scores: the mean over columns that have both positives and negatives; zero with a
            zero gradient where there are none.
        """
        dtype = scores.dtype
        return mean_of_columns(self._column, *labelled(scores, targets, mask)).to(dtype)

    def _column(self, scores: Tensor, positive: Tensor) -> Tensor:
        scores = scores / self.softness
        above, below = scores[positive], scores[~positive]
        return pair_sum(below, above, kernel=SOFTPLUS).mean() / len(above)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"softness={self.softness:g}"
