"""What a decision is worth on rows it was not fitted on: the validation rows in parts, each decided by the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision
from metricgrad.decisions.rows import PARTS, Context, of_rows
from metricgrad.metrics.metric import Metric

FOLDS = 5
FEWEST_ROWS = 20


@dataclass(frozen=True)
class Tried:
    """One candidate.

    Attributes:
        kind: its name.
        value: the metric of all rows, each decided by a decision fitted without it.
        gain: of that over no decision, signed so that more is better.
        error: the gain's standard error, a jackknife over tenths of the rows.
    """

    kind: str
    value: float
    gain: float
    error: float


def held_out(
    cls: type[Decision], metric: Metric, scores: Tensor, targets: Tensor, folds: Tensor, context: Context
) -> Tensor:
    """Decided scores, each fold's by a decision fitted on the other folds."""
    decided = scores.clone()
    for fold in range(FOLDS):
        out = folds % FOLDS == fold
        found = cls.fit(metric, scores[~out], targets[~out], **of_rows(context, ~out))
        decided[out] = found(scores[out])
    return decided


def tried(
    cls: type[Decision], metric: Metric, scores: Tensor, targets: Tensor, folds: Tensor, context: Context
) -> Tried:
    """What decisions of a kind gain over the scores as they are."""
    decided = held_out(cls, metric, scores, targets, folds, context)
    sign = 1.0 if metric.higher_is_better else -1.0
    both = torch.stack([decided, scores])

    def values(rows: Tensor) -> list[float]:
        return metric.over(both[:, rows], targets[rows], **of_rows(context, rows)).tolist()

    def gain(rows: Tensor) -> float:
        found, plain = values(rows)
        return sign * (found - plain)

    value, plain = values(torch.ones_like(folds, dtype=torch.bool))
    if math.isnan(plain) and not math.isnan(value):  # the metric has no value without a decision
        return Tried(cls.kind, value, math.inf, 0.0)
    without = [gain(folds != fold) for fold in range(PARTS)]
    mean = math.fsum(without) / PARTS
    error = math.sqrt((PARTS - 1) / PARTS * math.fsum((v - mean) ** 2 for v in without))
    return Tried(cls.kind, value, sign * (value - plain), error)
