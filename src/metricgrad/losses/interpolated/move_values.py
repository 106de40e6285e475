"""What a metric is worth after moves that change one row or one sentence each, without calling it on whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.families.neighbours import of_rows
from metricgrad.metrics.layouts.sentences import of_sentences
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Rows, Words


def change_by_rows(metric: Metric, rows: Rows) -> tuple[Tensor, Tensor]:
    """``(S,)`` values before any move, and ``(M,)`` changes of a mean over queries, of which each move touches one.

    Raises:
        MetricgradError: for a metric that is not known as such a mean.
    """
    of_row = of_rows(metric)
    if of_row is None:
        raise MetricgradError(
            f"metric {metric.name!r} is not known as a mean over queries, so it cannot be called on single "
            "similarities; pass interpolation='inverse_distance', which calls it on whole sets of embeddings"
        )
    asks = rows.relevant.any(1)
    asking = asks.sum() / rows.sets
    before = of_row(rows.similar, rows.relevant, **metric.fixed)
    after = of_row(rows.after(), rows.relevant[rows.row], **metric.fixed)
    each_set = torch.where(asks, before, 0).reshape(rows.sets, -1).sum(1)
    return each_set / asking, (after - before[rows.row]) / asking


def change_by_words(metric: Metric, words: Words) -> tuple[Tensor, Tensor]:
    """0-d value before any move, and ``(M,)`` changes; only the sentence that a move touches is counted again.

    Cost: that of counting M sentences.
    """
    by_sums = of_sentences(metric)
    assert by_sums is not None
    own = by_sums.counts(words.said, words.targets, **metric.fixed)
    total = own.sum(0)
    before = by_sums.value(total, **metric.fixed)
    moved = by_sums.counts(words.after(), words.targets[words.row], **metric.fixed)
    return before, by_sums.value(total - own[words.row] + moved, **metric.fixed) - before


def of_answers(metric: Metric, said: Tensor, targets: Tensor) -> Tensor:
    """``(S,)`` values of ``(S, N, T)`` words said."""
    by_sums = of_sentences(metric)
    assert by_sums is not None
    counted = by_sums.counts(said, targets.expand(said.shape), **metric.fixed)
    return by_sums.value(torch.sum(counted, 1), **metric.fixed)
