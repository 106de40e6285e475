"""Binary ranking metrics as functions of counts: how many negatives stand above each positive.

With the P positives in descending order and :math:`a_1 \\le \\dots \\le a_P` negatives above them, positive i has rank
:math:`i + a_i`, and that is all these metrics read. A score set whose counts are known needs no sorting of its N items,
which is what makes a thousand anchors cheap.
"""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(above: Tensor, negatives: int) -> Tensor:
    """``(T,)`` from ``(T, P)`` ascending counts of negatives above each positive."""
    place = torch.arange(1, above.shape[1] + 1, device=above.device)
    return (place / (place + above)).double().mean(1)


def auroc(above: Tensor, negatives: int) -> Tensor:
    """Share of positive-negative pairs in the right order."""
    return 1 - above.double().mean(1) / negatives


def recall_at_precision(above: Tensor, negatives: int, *, precision: float = 0.9) -> Tensor:
    """Largest recall of a threshold whose precision is at least ``precision``."""
    place = torch.arange(1, above.shape[1] + 1, device=above.device)
    reached = torch.where(place / (place + above).double() >= precision, place, 0)
    return reached.amax(1).double() / above.shape[1]


def precision_at_k(above: Tensor, negatives: int, *, k: int = 10) -> Tensor:
    """Positives among the first k items, over k."""
    return _found(above, k) / k


def recall_at_k(above: Tensor, negatives: int, *, k: int = 10) -> Tensor:
    """Positives among the first k items, over all positives."""
    return _found(above, k) / above.shape[1]


def _found(above: Tensor, k: int) -> Tensor:
    place = torch.arange(1, above.shape[1] + 1, device=above.device)
    return (place + above <= k).double().sum(1)
