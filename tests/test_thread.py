"""The thin thread: a metric name in, a loss that trains out."""

import torch

import metricgrad as mg


def test_uniloss_has_gradient_and_is_zero_at_ideal_scores():
    scores = torch.randn(32, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.arange(32) % 5
    loss = mg.UniLoss("macro_f1")(scores, targets)
    loss.backward()
    assert scores.grad is not None
    assert scores.grad.abs().sum() > 0
    ideal = torch.nn.functional.one_hot(targets, 5) * 100.0
    assert mg.UniLoss("macro_f1")(ideal, targets) == 0
