"""AUROC, average precision and recall at a precision against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from torchmetrics.functional.classification import binary_recall_at_fixed_precision

import metricgrad as mg
from tests.metrics.tester import agrees, batches, sigmoid, softmax


def auroc(y, s, sample_weight=None):
    return sk.roc_auc_score(y, s, sample_weight=sample_weight) if len(np.unique(y)) == 2 else np.nan


def average_precision(y, s, sample_weight=None):
    return sk.average_precision_score(y, s, sample_weight=sample_weight) if y.any() else np.nan


def recall_at_precision(y, s):
    if not y.any():
        return np.nan
    ranks = np.unique(s, return_inverse=True)[1] + 1.0
    found, _ = binary_recall_at_fixed_precision(torch.tensor(ranks / (ranks.max() + 1)), torch.tensor(y), 0.5)
    return float(found)


def by_column(oracle):
    def mean(y, s, **context):
        if y.ndim == 1:
            # the order of the softmax, in a form that float64 does not saturate
            y, s = np.eye(s.shape[1], dtype=int)[y], np.stack([_odds(s, c) for c in range(s.shape[1])], 1)
        columns = [oracle(y[:, c], s[:, c], **context) for c in range(y.shape[1])]
        return np.nan if np.isnan(columns).all() else np.nanmean(columns)

    return mean


def _odds(s, c):
    others = np.delete(s, c, axis=1)
    top = others.max(1)
    return np.round(s[:, c] - top - np.log(np.exp(others - top[:, None]).sum(1)), 9)


TABLE = {
    "auroc": auroc,
    "average_precision": average_precision,
    "recall_at_precision:precision=0.5": recall_at_precision,
}


@pytest.mark.parametrize("spec", TABLE)
@settings(max_examples=40, deadline=None)
@given(batch=batches("binary"))
def test_binary(spec, batch):
    agrees(spec, TABLE[spec], batch)
    if not spec.startswith("recall"):
        agrees(spec, TABLE[spec], batch, sample_weight=batch.weight)


@pytest.mark.parametrize("spec", TABLE)
@settings(max_examples=25, deadline=None)
@given(batch=batches("multilabel"))
def test_multilabel_is_the_mean_over_defined_columns(spec, batch):
    agrees(spec, by_column(TABLE[spec]), batch)


@pytest.mark.parametrize("spec", ["auroc", "average_precision"])
@settings(max_examples=25, deadline=None)
@given(batch=batches("multiclass"))
def test_multiclass_is_one_against_the_rest(spec, batch):
    batch.stack = (
        batch.stack + 1e-3 * torch.randn(batch.stack.shape, generator=torch.Generator().manual_seed(1)).double()
    )
    agrees(spec, by_column(TABLE[spec]), batch)


def test_multiclass_auroc_is_scikit_learns_on_the_softmax():
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    expected = sk.roc_auc_score(targets, softmax(scores), multi_class="ovr")
    assert float(mg.as_metric("auroc")(torch.tensor(scores), torch.tensor(targets))) == pytest.approx(expected)


def test_large_float32_logits_do_not_tie():
    scores, targets = torch.tensor([30.0, 31.0, 32.0, 33.0]), torch.tensor([0, 1, 0, 1])
    assert mg.as_metric("auroc")(scores, targets) == 0.75
    assert sk.roc_auc_score(targets, sigmoid(scores.numpy().astype(np.float32))) == 0.5
    pairs = torch.stack([-scores, scores], 1)
    assert mg.as_metric("auroc")(pairs, targets) == 0.75


def test_undefined_is_nan():
    scores = torch.randn(5)
    assert mg.as_metric("auroc")(scores, torch.ones(5)).isnan()
    assert mg.as_metric("auroc")(scores, torch.zeros(5)).isnan()
    assert mg.as_metric("average_precision")(scores, torch.zeros(5)).isnan()
    assert mg.as_metric("average_precision")(scores, torch.ones(5)) == 1
    assert mg.as_metric("recall_at_precision")(scores, torch.zeros(5)).isnan()


@pytest.mark.parametrize("precision", ["high", -0.1, 1.1])
def test_recall_at_precision_refuses_what_is_no_precision(precision):
    with pytest.raises(mg.MetricgradError, match="from 0 to 1"):
        mg.as_metric("recall_at_precision", precision=precision)(torch.randn(3), torch.tensor([0, 1, 1]))
