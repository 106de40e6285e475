"""How well a loss ranks blocks as a metric does: Spearman's correlation with a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.fitting.blocks import Block
from metricgrad.errors import MetricgradError
from metricgrad.functional import spearman

LossFunction = Callable[..., Tensor]

_RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """A rank correlation, 1 where a lower loss always means a better metric, with a 95 % interval.

    Attributes:
        value: the correlation over all blocks; NaN where the loss or the metric never varies.
        low: end of the interval.
        high: end of the interval. Blocks are resampled, the rows they come from are not.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def losses_of(loss: LossFunction, blocks: list[Block], *, in_groups: bool = False) -> Tensor:
    """``(B,)`` float64 values, one for each block, without gradients; ``in_groups`` hands it the blocks' groups."""
    with torch.no_grad():
        found = [loss(b.scores, b.targets, **(b.context if in_groups else {})) for b in blocks]
        numbers = [torch.as_tensor(value) for value in found]
        uneven = [value for value in numbers if value.numel() != 1]
        if uneven:
            raise MetricgradError(
                f"loss gives a tensor of shape {tuple(uneven[0].shape)} for a block; give one that returns one "
                "number, as with reduction='mean'"
            )
        return torch.stack([value.reshape(()).cpu().double() for value in numbers])


def agreement(values: Tensor, target_loss: Tensor, *, seed: int = 0) -> Agreement:
    """The correlation of loss values with the target loss of each block: the metric, turned so that lower is better."""
    rows = _resamples(len(values), seed)
    return _interval(float(spearman(values, target_loss)), spearman(values[rows], target_loss[rows]))


def difference(values: Tensor, others: Tensor, target_loss: Tensor, *, seed: int = 0) -> Agreement:
    """How much better the first loss correlates than the second, over the same resampled blocks."""
    rows = _resamples(len(values), seed)
    here = float(spearman(values, target_loss) - spearman(others, target_loss))
    return _interval(here, spearman(values[rows], target_loss[rows]) - spearman(others[rows], target_loss[rows]))


def as_json(found: Agreement) -> dict[str, Any]:
    """Plain numbers, None for NaN."""
    return {name: None if math.isnan(v) else v for name, v in vars(found).items()}


def _resamples(n: int, seed: int) -> Tensor:
    return torch.randint(n, (_RESAMPLES, n), generator=torch.Generator().manual_seed(seed))


def _interval(here: float, resampled: Tensor) -> Agreement:
    resampled = resampled[~resampled.isnan()]
    if math.isnan(here) or len(resampled) < 2:
        return Agreement(here, math.nan, math.nan)
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=resampled.dtype)).tolist()
    return Agreement(here, low, high)
