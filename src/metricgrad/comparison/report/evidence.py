"""What is kept of one training of each loss, so that the page can be drawn when nothing is trained any more.

One JSON file a loss, of its first seed: the metric over training, what was said of the test part, how the loss ranks
and pushes. It is plain numbers, some ten kilobytes, whatever the size of the data. Nothing of it enters a choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from metricgrad.comparison.report.evidence_file import Epoch, Evidence
from metricgrad.comparison.report.loss_pictures import curriculum_of, is_learned, mismatch_seen, push_of
from metricgrad.comparison.report.predictions import predictions_of
from metricgrad.decisions.kinds import stored
from metricgrad.losses.registry import ProblemKind
from metricgrad.training.batches import Data, context_of
from metricgrad.training.result import FitResult


def gather(loss: nn.Module | None, result: FitResult, valid: Data, test: Data, kind: ProblemKind) -> Evidence:
    """Everything that is kept of a training.

    Args:
        loss: as the training left it; None of trees and averages, which were trained on no one module.
        result: what it delivered.
        valid: the validation part, for how the loss ranks.
        test: the test part, for what the model said of it.
        kind: of problem.

    Cost: two forward passes, and 100 calls of the loss and the metric.
    """
    valid_scores, valid_targets = result.scored(valid)
    outputs = valid_scores.shape[1] if kind == "multiclass" else None
    loss = None if loss is None else loss.eval()
    return {
        "history": [_epoch(row) for row in result.history],
        "decision": stored(result.decision),
        "predictions": predictions_of(
            result.metric, result.decision, *result.scored(test), context_of(test).get("sample_weight")
        ),
        "mismatch": {}
        if loss is None
        else mismatch_seen(loss, result.metric, valid_scores, valid_targets, context_of(valid).get("sample_weight")),
        "learned": loss is not None and is_learned(loss),
        "push": push_of(loss, outputs) if loss is not None and kind in ("binary", "multiclass") else None,
        "curriculum": None if loss is None else curriculum_of(loss),
    }


def _epoch(row: Mapping[str, float]) -> Epoch:
    valid, loss, seconds = (row[key] if math.isfinite(row[key]) else None for key in ("valid", "train_loss", "seconds"))
    return Epoch(epoch=int(row["epoch"]), train_loss=loss, valid=valid, seconds=seconds)
