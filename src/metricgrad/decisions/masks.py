"""The mask of an image with the largest expected overlap: a cut of its own for every image."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide

Overlap = Literal["dice", "iou"]

_OF_METRIC: dict[str, Overlap] = {"dice": "dice", "f1": "dice", "fbeta": "dice", "mean_iou": "iou", "jaccard": "iou"}
_TEMPERATURES, _SHIFTS = (0.5, 0.75, 1.0, 1.5, 2.5), (-1.0, -0.5, 0.0, 0.5, 1.0)


class Masks(Decision):
    r"""In every image the likeliest pixels, as many as make the expected Dice or IoU largest.

    .. math:: k = \arg\max_k \frac{2 \sum_{i \le k} p_{(i)}}{k + \sum_i p_i} \quad\text{or}\quad
        \frac{\sum_{i \le k} p_{(i)}}{k + \sum_{i > k} p_{(i)}}, \qquad p = \sigma(s / T + b)

    with the pixels' probabilities in descending order: the ratio of expectations, which the expectation comes to as
    images grow. The cut is at half the Dice that is expected, so an image that the model is sure of gets one near 1/2
    and one that it is not a lower one. An image with less than half a pixel expected gets none.

    For one yes or no a pixel, ``(N, H, W)`` or any other axes after the first, where the metric is the mean over images
    (``groups=``). Where the counts of all images are one, a :class:`Threshold` is what is best.

    Args:
        overlap: ``"dice"`` or ``"iou"``.
        temperature: T, above 0: what the scores are divided by to be the logits of probabilities.
        shift: b, on the logit scale.

    Cost: a sort of the pixels of each image, O(n log n).

    Example:
        >>> import torch
        >>> sure, unsure = [4.0, 3.0, -3.0, -4.0], [-0.4, -0.8, -3.0, -4.0]
        >>> Masks("dice").predict(torch.tensor([sure, unsure])).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0]]

    References:
        B. Dai and C. Li, "RankSEG: A Consistent Ranking-based Framework for Segmentation", JMLR 2023, for Dice. Ours:
        the ratio of expectations in place of the expectation, which they approximate too, and T and b, fitted.
    """

    kind: ClassVar[str] = "masks"

    def __init__(self, overlap: Overlap = "dice", temperature: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        if overlap not in ("dice", "iou"):
            raise MetricgradError(f"overlap is {overlap!r}; expected 'dice' or 'iou'")
        if not (0 < temperature < math.inf and math.isfinite(shift)):
            raise MetricgradError(
                f"temperature and shift are {temperature!r} and {shift!r}; expected finite numbers, the first above 0"
            )
        self.overlap: Overlap = overlap
        self.temperature, self.shift = float(temperature), float(shift)

    def forward(self, scores: Tensor) -> Tensor:
        """By how many places each pixel stands above the cut of its image."""
        if scores.ndim < 2:
            raise MetricgradError(f"decision 'masks' reads images (N, H, W), got shape {tuple(scores.shape)}")
        flat = wide(scores).flatten(1)
        if not flat.numel():
            return scores.clone()
        probability = (flat / self.temperature + self.shift).sigmoid().nan_to_num(nan=0.0)  # not known is no yes
        probability, order = probability.sort(dim=1, descending=True, stable=True)
        found, total = probability.cumsum(1), probability.sum(1, keepdim=True)
        count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
        value = 2 * found / (count + total) if self.overlap == "dice" else found / (count + total - found)
        kept = torch.where(total[:, 0] < 0.5, 0, value.argmax(1) + 1)
        rank = torch.empty_like(order).scatter(1, order, (count - 1).expand_as(order))
        # by place, not by a cut between two scores: equal scores must not all pass or all fail; half precision ends
        # before a large image does
        most = min(flat.shape[1], torch.finfo(scores.dtype).max)
        return (kept[:, None] - 0.5 - rank).clamp(-most, most).to(scores).reshape(scores.shape)

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """The overlap of the metric's name, or the better one, at the best of 25 temperatures and shifts.

        Cost: 25 values of the metric, 50 where its name says nothing.
        """
        known = _OF_METRIC.get(metric.name.partition(":")[0])
        overlaps: tuple[Overlap, ...] = ("dice", "iou") if known is None else (known,)
        tried = [cls(*each) for each in itertools.product(overlaps, _TEMPERATURES, _SHIFTS)]
        tried.sort(key=lambda one: (abs(math.log(one.temperature)), abs(one.shift)))  # the plainest of equals
        values = torch.stack([metric(one(scores), targets, **context) for one in tried])
        ordered = torch.nan_to_num(values if metric.higher_is_better else -values, nan=-torch.inf)
        return tried[int(ordered.argmax())]

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {"overlap": self.overlap, "temperature": self.temperature, "shift": self.shift}
