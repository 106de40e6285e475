"""Differentiable metrics, rank correlation and top-k accuracy against their oracles."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch
from hypothesis import given, settings

import metricgrad as mg
from tests.metrics.tester import agrees, batches, sigmoid, softmax

REAL = {
    "mse": lambda y, s, sample_weight=None: sk.mean_squared_error(y, s, sample_weight=sample_weight),
    "mae": lambda y, s, sample_weight=None: sk.mean_absolute_error(y, s, sample_weight=sample_weight),
    "r2": lambda y, s, sample_weight=None: _r2(y, s, sample_weight),
}
RANKS = {
    "spearman": lambda y, s: scipy.stats.spearmanr(y, s).statistic if len(y) > 1 else np.nan,
    "kendall": lambda y, s: scipy.stats.kendalltau(y, s).statistic if len(y) > 1 else np.nan,
}


def _r2(y, s, weight):
    """scikit-learn's, of targets less that of the heaviest row: their weighted mean is then exact where all are one.

    Of targets 3 and 3 with weights .431 and 1.0086 it finds a mean that is off by rounding, and a score of -1e31.
    """
    origin = y[0 if weight is None else np.argmax(weight)]
    return sk.r2_score(y - origin, s - origin, sample_weight=weight)


@settings(max_examples=40, deadline=None)
@given(batch=batches("real"))
def test_real_targets(batch):
    for spec, oracle in REAL.items():
        agrees(spec, oracle, batch)
        agrees(spec, oracle, batch, sample_weight=batch.weight)
    for spec, oracle in RANKS.items():
        agrees(spec, oracle, batch)


@settings(max_examples=15, deadline=None)
@given(batch=batches("lists"))
def test_columns_are_averaged(batch):
    for spec, oracle in (REAL | RANKS).items():

        def mean(y, s, oracle=oracle, **context):
            return np.mean([oracle(y[:, c], s[:, c], **context) for c in range(y.shape[1])])

        agrees(spec, mean, batch)
        if spec in REAL:
            agrees(spec, mean, batch, sample_weight=batch.weight)


@settings(max_examples=25, deadline=None)
@given(binary=batches("binary"), many=batches("multiclass"))
def test_log_loss(binary, many):
    def of_sigmoid(y, s, sample_weight=None):
        return sk.log_loss(y, sigmoid(s), labels=[0, 1], sample_weight=sample_weight)

    def of_softmax(y, s, sample_weight=None):
        return sk.log_loss(y, softmax(s), labels=range(s.shape[1]), sample_weight=sample_weight)

    for batch, oracle in ((binary, of_sigmoid), (many, of_softmax)):
        batch.stack = batch.stack.clamp(-12, 12)  # scikit-learn clips a mistake at 36 nats
        agrees("log_loss", oracle, batch)
        agrees("log_loss", oracle, batch, sample_weight=batch.weight)


@settings(max_examples=25, deadline=None)
@given(batch=batches("multiclass"))
def test_top_k_accuracy(batch):
    if batch.stack.shape[-1] < 3:
        return

    def oracle(y, s, sample_weight=None):
        return sk.top_k_accuracy_score(y, s, k=2, labels=range(s.shape[1]), sample_weight=sample_weight)

    agrees("top_k_accuracy:k=2", oracle, batch)
    agrees("top_k_accuracy:k=2", oracle, batch, sample_weight=batch.weight)


@pytest.mark.parametrize("spec", ["mse", "mae", "r2", "log_loss"])
def test_the_graph_is_kept(spec):
    scores = torch.randn(6, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(6, dtype=torch.float64)
    metric = mg.as_metric(spec)
    assert metric.structure is not None
    assert metric.structure.kind == "differentiable"
    assert torch.autograd.gradcheck(lambda s: metric.differentiable(s, targets), scores)
    assert metric.differentiable(scores, targets).detach() == metric(scores, targets)
    assert not metric(scores, targets).requires_grad


def test_r2_of_constant_targets_has_a_finite_gradient():
    scores = torch.zeros(4, requires_grad=True)
    mg.as_metric("r2").differentiable(scores, torch.ones(4)).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_bad_input_is_refused():
    with pytest.raises(mg.MetricgradError, match="one shape"):
        mg.as_metric("mse")(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    with pytest.raises(mg.MetricgradError, match=r"\(N, C\) scores"):
        mg.as_metric("top_k_accuracy")(torch.randn(4), torch.ones(4))
    with pytest.raises(mg.MetricgradError, match="whole number"):
        mg.as_metric("top_k_accuracy:k=0")
    with pytest.raises(mg.MetricgradError, match="0 to 1"):
        mg.as_metric("log_loss")(torch.randn(3), torch.tensor([0.0, 2.0, 1.0]))


def test_a_constant_column_wrecks_no_r2():
    targets = torch.stack([torch.full((16,), 0.1), torch.randn(16)], 1)
    leaf = torch.randn(16, 2).requires_grad_()
    for weight in (None, torch.rand(16)):
        value = mg.as_metric("r2")(leaf, targets, sample_weight=weight)
        assert -100 < float(value.detach()) <= 1
    mg.UniLoss("r2")(leaf, targets).backward()
    assert leaf.grad.abs().max() < 100
