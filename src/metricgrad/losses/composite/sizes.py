"""How large gradients are, as moving means of their squared norms, and what brings one to the size of another.

As tensors, where the ratio is differentiated or nobody is to wait for it, and as numbers, where the host reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metricgrad.precision import wide

LEAST = 1e-30


def means_of(gradients: Sequence[Tensor], before: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """The means of squared norms before this batch, NaN where there was none, and with it."""
    now = wide(torch.stack([_squared_norm(part) for part in gradients]))
    was = before[: len(now)].to(now.device)
    return was, torch.lerp(now, torch.where(was >= 0, was, now), momentum)


def ratios(mean: Tensor) -> Tensor:
    """What brings each gradient to the size of the first."""
    least = mean.clamp(min=LEAST)
    return (least[0] / least[1:]).sqrt() * (mean[1:] > LEAST)


def mean_of(norm: float, before: float, momentum: float) -> float:
    """As :func:`means_of`, of one."""
    now = norm * norm
    return now + momentum * (before - now) if before >= 0 else now


def ratio(first: float, mean: float) -> float:
    """As :func:`ratios`, of one."""
    return math.sqrt(max(first, LEAST) / mean) if mean > LEAST else 0.0


def _squared_norm(part: Tensor) -> Tensor:
    """0-d, in the dtype of the part: to 1e-5 of a million scores, and without a copy in another dtype."""
    flat = part.reshape(-1)
    return flat.dot(flat)
