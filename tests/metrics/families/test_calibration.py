"""Metrics of probabilities against scikit-learn, torchmetrics and a sum by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from torchmetrics.functional import calibration_error

import metricgrad as mg
from tests.metrics.tester import agrees, batches, quietly, sigmoid, softmax


@settings(max_examples=25, deadline=None)
@given(binary=batches("binary"), many=batches("multiclass"), labels=batches("multilabel"))
def test_brier(binary, many, labels):
    def of_sigmoid(y, s, sample_weight=None):
        return sk.brier_score_loss(y, sigmoid(s), sample_weight=sample_weight, pos_label=1)

    def of_softmax(y, s, sample_weight=None):
        return sk.brier_score_loss(y, softmax(s), labels=range(s.shape[1]), sample_weight=sample_weight)

    for batch, oracle in ((binary, of_sigmoid), (many, of_softmax)):
        if batch is many and batch.stack.shape[-1] < 3:
            continue  # scikit-learn takes two columns as yes or no, and halves the sum
        agrees("brier", oracle, batch)
        agrees("brier", oracle, batch, sample_weight=batch.weight)
    agrees("brier", lambda y, s: np.square(y - sigmoid(s)).mean(), labels)


@settings(max_examples=25, deadline=None)
@given(binary=batches("binary"), many=batches("multiclass"))
def test_calibration_error(binary, many):
    def of_sigmoid(y, s):
        return calibration_error(torch.tensor(sigmoid(s)), torch.tensor(y), "binary", n_bins=15)

    def of_softmax(y, s):
        p = torch.tensor(softmax(s))
        return calibration_error(p, torch.tensor(y), "multiclass", n_bins=10, num_classes=s.shape[1])

    for batch, spec, oracle in ((binary, "ece", of_sigmoid), (many, "ece:bins=10", of_softmax)):
        batch.stack = batch.stack.clamp(-6, 6) + 0.013  # torchmetrics gives a confidence of exactly 1 a bin of its own
        expected = [quietly(oracle, batch.targets.numpy(), row.numpy()) for row in batch.stack]
        np.testing.assert_allclose(mg.as_metric(spec).over(batch.stack, batch.targets), expected, atol=1e-6)


def test_calibration_error_by_hand():
    scores = torch.tensor([0.2, 0.3, 0.9, 0.8]).logit()
    # of two bins, the lower has mean .25 and half a yes, the upper .85 and one
    assert float(mg.as_metric("ece:bins=2")(scores, torch.tensor([0, 1, 1, 1]))) == pytest.approx(
        0.5 * 0.25 + 0.5 * 0.15
    )


@pytest.mark.parametrize("spec", ["brier", "ece", "ece:bins=3"])
@pytest.mark.parametrize("shape", [(40,), (40, 3)])
def test_they_train_as_they_are(spec, shape):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(*shape, dtype=torch.float64, generator=g)
    targets = torch.randint(2, (40,), generator=g)
    loss = mg.UniLoss(spec)
    assert float(loss(scores, targets)) == pytest.approx(float(mg.as_metric(spec)(scores, targets)))
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), scores.requires_grad_(), eps=1e-8, atol=1e-5)


def test_bad_bins_are_refused():
    with pytest.raises(mg.MetricgradError, match="bins is 0"):
        mg.as_metric("ece:bins=0")(torch.randn(4), torch.ones(4))
