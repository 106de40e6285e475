"""Average precision with sigmoids in place of ranks, in near-linear time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.batches import checked_number, labelled, mean_of_columns


class SmoothAP(nn.Module):
    r"""One minus average precision with soft ranks, over the positives P of a batch.

    .. math:: 1 - \frac{1}{|P|} \sum_{i \in P} \frac{1 + \sum_{j \in P, j \ne i} \sigma((s_j - s_i)/\tau)}
        {1 + \sum_{j \ne i} \sigma((s_j - s_i)/\tau)}

    Use it where the metric is average precision and batches hold many negatives. Not for small batches, whose average
    precision is far above that of the whole set, nor with a softness far below the spread of the scores, where the
    gradient of a badly ranked positive vanishes.

    Args:
        softness: :math:`\tau`, above 0, in units of the scores. The paper's 0.01 is for cosines; 1 suits logits.

    Cost: O(N + R log R) time and memory for each column, R = range of the scores / (0.125 softness).

    Raises:
        MetricgradError: for a softness out of range.

    Example:
        >>> import torch
        >>> round(float(SmoothAP()(torch.tensor([0.0, 0.0]), torch.tensor([0, 1]))), 4)  # ranks 1 and 1.5
        0.3333

    References:
        A. Brown, W. Xie, V. Kalogeiton and A. Zisserman, "Smooth-AP: Smoothing the Path Towards Large-Scale Image
        Retrieval", ECCV 2020, Eq. 7. The paper visits all pairs.
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
        behind = -scores / self.softness
        among = torch.stack([positive.to(scores), torch.ones_like(scores)])
        # each positive meets itself in the sums at sigmoid(0) = 1/2, of the 1 it should count
        of_positives, of_all = pair_sum(behind[positive], behind, among) + 0.5
        return 1 - (of_positives / of_all).mean()

    def extra_repr(self) -> str:
        """Its settings."""
        return f"softness={self.softness:g}"
