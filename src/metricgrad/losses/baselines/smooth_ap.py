"""Average precision with sigmoids in place of ranks, in near-linear time."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.baselines.base import LabelLoss
from metricgrad.losses.batches import Rows, checked_number, mean_of_lists
from metricgrad.losses.registry import ONE_SCORE, SOFTNESS, Entry, register
from metricgrad.precision import wide


class SmoothAP(LabelLoss):
    r"""One minus average precision with soft ranks, over the positives P of a batch.

    .. math:: 1 - \frac{1}{|P|} \sum_{i \in P} \frac{1 + \sum_{j \in P, j \ne i} \sigma((s_j - s_i)/\tau)}
        {1 + \sum_{j \ne i} \sigma((s_j - s_i)/\tau)}

    Use it where the metric is average precision and batches hold many negatives. Not for small batches, whose average
    precision is far above that of the whole set, nor with a softness far below the spread of the scores, where the
    gradient of a badly ranked positive vanishes.

    With ``sample_weight``, weights count copies, which share their ranks.

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

    takes: ClassVar[frozenset[str]] = frozenset({"sample_weight", "groups"})

    def __init__(self, *, softness: float = 1.0) -> None:
        super().__init__()
        self.softness = checked_number("softness", softness)

    def of_rows(self, rows: Rows) -> Tensor:
        """0-d: the mean over columns, or queries, that have both positives and negatives."""
        return mean_of_lists(self._list, rows)

    def _list(self, scores: Tensor, positive: Tensor, weight: Tensor | None) -> Tensor:
        weight = torch.ones_like(scores) if weight is None else weight
        behind, own = -wide(scores) / self.softness, weight[positive]
        # each positive meets itself in the sums at sigmoid(0) = 1/2, of the 1 it should count; copies meet likewise
        of_positives, of_all = pair_sum(behind[positive], behind, torch.stack([positive * weight, weight])) + 0.5
        return 1 - ((own * of_positives / of_all).sum() / own.sum()).to(scores.dtype)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"softness={self.softness:g}"


register(
    "smooth_ap",
    Entry(
        SmoothAP,
        ONE_SCORE,
        "average precision with sigmoids in place of ranks",
        standard=True,
        space={"softness": SOFTNESS},
    ),
)
