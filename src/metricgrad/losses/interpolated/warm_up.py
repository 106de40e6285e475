"""A standard loss that is blended out over the first steps."""

from __future__ import annotations

from torch import Tensor

from metricgrad.losses.standard_loss import standard_loss
from metricgrad.metrics.layouts.layout import Layout
from metricgrad.refactoring.batch import Batch


def warmed(loss: Tensor, layout: Layout, batch: Batch, step: int, steps: int) -> Tensor:
    """The loss, of which the standard loss of the layout takes the place at step 0, and nothing from ``steps`` on."""
    if step >= steps:
        return loss
    weight = step / steps
    weights = batch.of_items("sample_weight")
    given = {} if weights is None else {"sample_weight": weights}
    return weight * loss + (1 - weight) * standard_loss(layout)(batch.scores, batch.targets, **given)
