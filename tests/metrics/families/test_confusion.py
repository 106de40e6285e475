"""Label metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_cohen_kappa

import metricgrad as mg
from tests.metrics.tester import agrees, batches, labels


def of_labels(fn, pool=False, **fixed):
    """The function on predicted labels; on all entries as one list where pooled."""

    def oracle(y, s, sample_weight=None):
        found = labels(s, y)
        return fn(*((y.ravel(), found.ravel()) if pool else (y, found)), sample_weight=sample_weight, **fixed)

    return oracle


def gmean(y, s, sample_weight=None):
    right = labels(s, y) == y
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    recalls = [np.average(right[y == c], weights=weight[y == c]) for c in np.unique(y)]
    return np.prod(recalls) ** (1 / len(recalls))


SINGLE = {
    "accuracy": of_labels(sk.accuracy_score),
    "macro_f1": of_labels(sk.f1_score, average="macro"),
    "weighted_f1": of_labels(sk.f1_score, average="weighted"),
    "micro_f1": of_labels(sk.f1_score, average="micro"),
    "fbeta:beta=2,average=macro": of_labels(sk.fbeta_score, beta=2, average="macro"),
    "jaccard:average=macro": of_labels(sk.jaccard_score, average="macro"),
    "jaccard:average=weighted": of_labels(sk.jaccard_score, average="weighted"),
    "jaccard:average=micro": of_labels(sk.jaccard_score, average="micro"),
    "balanced_accuracy": of_labels(sk.balanced_accuracy_score),
    "mcc": of_labels(sk.matthews_corrcoef),
    "kappa": of_labels(sk.cohen_kappa_score),
    "quadratic_kappa": of_labels(sk.cohen_kappa_score, weights="quadratic"),
    "g_mean": gmean,
}
BINARY = SINGLE | {
    "f1": of_labels(sk.f1_score),
    "fbeta:beta=0.5": of_labels(sk.fbeta_score, beta=0.5),
    "jaccard": of_labels(sk.jaccard_score),
}
MULTILABEL = {
    "accuracy": of_labels(sk.accuracy_score),
    "macro_f1": of_labels(sk.f1_score, average="macro"),
    "weighted_f1": of_labels(sk.f1_score, average="weighted"),
    "micro_f1": of_labels(sk.f1_score, average="micro"),
    "samples_f1": of_labels(sk.f1_score, average="samples"),
    "fbeta:beta=2,average=samples": of_labels(sk.fbeta_score, beta=2, average="samples"),
    "jaccard:average=samples": of_labels(sk.jaccard_score, average="samples"),
    "jaccard:average=macro": of_labels(sk.jaccard_score, average="macro"),
    "jaccard:average=weighted": of_labels(sk.jaccard_score, average="weighted"),
}
POOLED = {
    "f1": of_labels(sk.f1_score, pool=True),
    "jaccard": of_labels(sk.jaccard_score, pool=True),
    "mcc": of_labels(sk.matthews_corrcoef, pool=True),
    "kappa": of_labels(sk.cohen_kappa_score, pool=True),
    "balanced_accuracy": of_labels(sk.balanced_accuracy_score, pool=True),
}


@pytest.mark.parametrize(
    ("kind", "table"), [("binary", BINARY), ("multiclass", SINGLE), ("multilabel", MULTILABEL), ("multilabel", POOLED)]
)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_equal_to_scikit_learn(kind, table, data):
    batch = data.draw(batches(kind))
    for spec, oracle in table.items():
        agrees(spec, oracle, batch)
        if table is not POOLED:
            agrees(spec, oracle, batch, sample_weight=batch.weight)


@settings(max_examples=25, deadline=None)
@given(batch=batches("multiclass"))
def test_quadratic_kappa_with_num_classes_is_torchmetrics(batch):
    def oracle(y, s):
        return multiclass_cohen_kappa(torch.tensor(s.argmax(-1)), torch.tensor(y), s.shape[1], weights="quadratic")

    agrees(mg.as_metric("quadratic_kappa", num_classes=batch.stack.shape[-1]), oracle, batch)


def test_quadratic_kappa_counts_distance_in_the_grades_that_occur():
    scores = torch.eye(5)[torch.tensor([0, 1, 4, 4])]
    targets = torch.tensor([0, 1, 1, 4])
    assert mg.as_metric("quadratic_kappa")(scores, targets) > mg.as_metric("quadratic_kappa:num_classes=5")(
        scores, targets
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [("f1", "more than two classes"), ("samples_f1", "multilabel"), ("quadratic_kappa:num_classes=2", "grade")],
)
def test_what_has_no_meaning_is_refused(spec, message):
    with pytest.raises(mg.MetricgradError, match=message):
        mg.as_metric(spec)(torch.eye(3), torch.arange(3))


def test_unknown_average_is_refused_when_the_metric_is_made():
    with pytest.raises(mg.MetricgradError, match="expected one of"):
        mg.as_metric("fbeta:average=weird")
