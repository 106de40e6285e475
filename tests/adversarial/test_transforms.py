"""A loss inside torch.func's transforms that it does not go through says what to call instead."""

from __future__ import annotations

import pytest
import torch

import metricgrad as mg


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("metric", ["average_precision", "f1", "ndcg"])
def test_transforms_that_a_loss_does_not_go_through_are_named(metric, anchored):
    scores, targets = torch.randn(12), (torch.arange(12) % 3 == 0).long()
    loss = mg.UniLoss(metric, anchored=anchored)
    loss(scores.clone().requires_grad_(), targets)
    with pytest.raises(mg.MetricgradError, match=r"torch\.autograd\.grad or backward\(\)"):
        torch.func.vmap(lambda one: loss(one, targets))(torch.stack([scores, scores + 1]))
    with pytest.raises(mg.MetricgradError, match=r"torch\.autograd\.grad or backward\(\)"):
        torch.func.grad(torch.func.vmap(lambda one: loss(one, targets)))(torch.stack([scores, scores]))


def test_an_error_outside_of_them_stays_what_it_is():
    def failing(labels: torch.Tensor, targets: torch.Tensor) -> float:
        raise MemoryError

    loss = mg.UniLoss(mg.as_metric(failing, higher_is_better=True, reads="labels"))
    with pytest.raises((MemoryError, mg.MetricgradError)) as caught:
        loss(torch.randn(12, 3, requires_grad=True), torch.arange(12) % 3)
    assert "torch.func" not in str(caught.value)
