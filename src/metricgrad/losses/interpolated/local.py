"""Local interpolation: single moves from the current decisions, each as much as soft decisions have already made it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from metricgrad.losses.interpolated.bounds import Estimate
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.moves import MoveRequest

_ELEMENTS = 2**21
"""Numbers that all moves of a step may take."""


def budget(metric: Metric, batch: Batch, calls: int) -> int:
    """How many moves the metric may be called on in one step; ``calls`` is the budget of a foreign metric."""
    if not metric.batched:
        return calls - 2  # two more for where the moves start and the worst value
    elements = metric.layout.elements(batch.scores, batch.targets)
    if metric.fast_path is not None and metric.fast_path.takes(batch.context):
        elements = metric.fast_path.elements(batch.scores, batch.targets, elements)
    return max(calls, _ELEMENTS // max(1, elements))


def local_value(
    metric: Metric, batch: Batch, refactoring: Refactoring, current: Tensor, request: MoveRequest
) -> Estimate:
    """The value for each start of the moves.

    To first order in the decisions the expected metric is its value at one configuration and, for each decision, the
    change that another choice would make, times how likely that choice is: nothing is assumed of the metric, and its
    gradient depends on no other metric's values.
    """
    names = "kept" if metric.fast_path is None else metric.fast_path.names
    moves = refactoring.moves(replace(request, names=names))
    start, values = moves.values(metric, batch)
    delta = moves.delta(start, values)
    value = start + moves.change(delta)
    # of scores that tie each strict order counts for itself; a draw of decisions stands for the current scores
    known = current if moves.origin is None else start
    # equal scores have no correlation: then nothing is known, whatever the moves say
    return Estimate(value, known, bool(moves.inform(delta) & known.isfinite().all()))
