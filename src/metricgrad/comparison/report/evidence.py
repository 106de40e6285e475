"""What is kept of one training of each loss, so that the page can be drawn when nothing is trained any more.

One JSON file a loss, of its first seed: the metric over training, what was said of the test part, how the loss ranks
and pushes. It is plain numbers, some ten kilobytes, whatever the size of the data. Nothing of it enters a choice.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from metricgrad.comparison.report.loss_pictures import curriculum_of, is_learned, mismatch_seen, push_of
from metricgrad.comparison.report.predictions import counted
from metricgrad.decisions.kinds import stored
from metricgrad.losses.registry import ProblemKind
from metricgrad.training.batches import Data
from metricgrad.training.result import FitResult


def gather(loss: nn.Module, result: FitResult, valid: Data, test: Data, kind: ProblemKind) -> dict[str, Any]:
    """Everything that is kept of a training.

    Args:
        loss: as the training left it.
        result: what it delivered.
        valid: the validation part, for how the loss ranks.
        test: the test part, for what the model said of it.
        kind: of problem.

    Cost: two forward passes, and 100 calls of the loss and the metric.
    """
    valid_scores, valid_targets = result.scored(valid)
    loss = loss.eval()
    outputs = valid_scores.shape[1] if kind == "multiclass" else None
    return {
        "history": [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in result.history],
        "decision": stored(result.decision),
        "predictions": counted(result.metric, result.decision, *result.scored(test)),
        "mismatch": mismatch_seen(loss, result.metric, valid_scores, valid_targets),
        "learned": is_learned(loss),
        "push": push_of(loss, outputs) if kind in ("binary", "multiclass") else None,
        "curriculum": curriculum_of(loss),
    }
