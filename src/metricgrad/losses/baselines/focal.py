"""Focal loss: cross-entropy in which easy items weigh less."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines.base import LabelLoss
from metricgrad.losses.batches import Rows, checked_number
from metricgrad.losses.registry import CLASSIFICATION, Entry, Range, register


class Focal(LabelLoss):
    r"""The mean of :math:`-\alpha_t (1 - p_t)^\gamma \log p_t`, where :math:`p_t` is the probability of the target.

    Use it for many easy items beside few hard ones. Not for noisy labels, which it takes for hard items, nor where
    probabilities must be calibrated.

    Args:
        gamma: how much less easy items weigh, from 0 up; 0 is cross-entropy.
        alpha: None; for scores shaped like their targets a number from 0 to 1, the weight of positives, with 1 - alpha
            for negatives; for classes a sequence of C weights.

    Cost: O(N C) time and memory.

    Raises:
        MetricgradError: for an option out of range, and for an alpha that does not fit the batch.

    Example:
        >>> import torch
        >>> round(float(Focal(gamma=2.0)(torch.zeros(2), torch.tensor([0, 1]))), 4)  # log(2) / 4
        0.1733

    References:
        T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollár, "Focal Loss for Dense Object Detection", ICCV 2017,
        Eq. 5. The mean is over all entries; the paper divides by the number of anchors assigned to an object.
    """

    def __init__(self, *, gamma: float = 2.0, alpha: float | Sequence[float] | None = None) -> None:
        super().__init__()
        self.gamma = checked_number("gamma", gamma, zero=True)
        if alpha is None:
            self.alpha = None
        elif isinstance(alpha, Sequence) and not isinstance(alpha, str):
            self.alpha = tuple(checked_number("alpha", weight, zero=True) for weight in alpha)
        else:
            self.alpha = checked_number("alpha", alpha, zero=True, most=1.0)

    def of_rows(self, rows: Rows) -> Tensor:
        """0-d."""
        margins = _margins(rows.scores, rows.targets)
        # (1 - p)^gamma as a sigmoid's power has a finite slope at p = 1 for every gamma
        each = -(self.gamma * nn.functional.logsigmoid(-margins)).exp() * nn.functional.logsigmoid(margins)
        if self.alpha is not None:
            each = each * self._weights(rows.scores, rows.targets)
        return rows.mean(each)

    def _weights(self, scores: Tensor, targets: Tensor) -> Tensor:
        if scores.shape == targets.shape:
            if not isinstance(self.alpha, float):
                raise MetricgradError(f"alpha is {self.alpha!r}; 0/1 targets take one number, the weight of positives")
            return self.alpha * targets + (1 - self.alpha) * (1 - targets)
        if not isinstance(self.alpha, tuple) or len(self.alpha) != scores.shape[1]:
            raise MetricgradError(f"alpha is {self.alpha!r}; {scores.shape[1]} classes take one weight for each")
        return torch.tensor(self.alpha, dtype=scores.dtype, device=scores.device)[targets]

    def extra_repr(self) -> str:
        """Its settings."""
        return f"gamma={self.gamma:g}, alpha={self.alpha!r}"


def _margins(scores: Tensor, targets: Tensor) -> Tensor:
    """The log-odds of each target: with p their sigmoid, classes and 0/1 targets have one formula."""
    if scores.shape == targets.shape:
        return torch.where(targets > 0, scores, -scores)
    right = targets[:, None]
    others = scores.scatter(1, right, -torch.inf).logsumexp(1)
    return scores.gather(1, right)[:, 0] - others


register(
    "focal",
    Entry(
        Focal,
        CLASSIFICATION,
        "cross-entropy with easy items weighing less",
        standard=True,
        space={"gamma": Range(0.5, 5.0, default=2.0, log=False)},
    ),
)
