"""The average of several trainings: one model whose scores are the mean of theirs, under a decision of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from metricgrad.decisions.identity import Identity
from metricgrad.training.batches import Data
from metricgrad.training.delivery import Delivery
from metricgrad.training.result import FitResult


class Average(nn.Module):
    """The mean of the raw scores of several models of one architecture.

    Of logits that is the normalised geometric mean of their probabilities. Not for embeddings, whose axes differ from
    training to training.

    Args:
        models: at least one; each gives scores of the same shape.

    Cost: that of all models.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Mean scores, in the shape of each."""
        return torch.stack([model(*inputs) for model in self.models]).mean(0)


def averaged(results: Sequence[FitResult], valid: Data, delivery: Delivery) -> FitResult:
    """The average of trainings on the same parts, with the decision that its own validation scores ask for.

    Args:
        results: at least one, of one metric.
        valid: their validation part.
        delivery: which decision.
    """
    first = results[0]
    found = FitResult(Average([result.model for result in results]).eval(), first.metric, forward=first.forward)
    found.history = [{"epoch": 0, "train_loss": math.nan, "valid": found.evaluate(valid), "seconds": 0.0}]
    found.settle(valid, delivery)
    if any(result.plain for result in results):
        plains = [result.plain() if result.plain else result for result in results]
        model = Average([plain.model for plain in plains]).eval()
        # each was chosen at an epoch that flatters these very rows
        flattered = sum(plain.evaluate(valid) - plain.valid_undecided for plain in plains) / len(plains)
        value = replace(found, model=model, decision=Identity()).evaluate(valid) - flattered
        found.plain = partial(found.read_plainly, model, value)
    return found
