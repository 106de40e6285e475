"""What a foreign metric is presumed to be has its value, on batches that lack classes too."""

import itertools

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics

import metricgrad as mg
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.of_labels import OfTables

OF_CLASSES = {
    "accuracy": (sklearn.metrics.accuracy_score, {}),
    "balanced accuracy": (sklearn.metrics.balanced_accuracy_score, {}),
    "macro F1": (sklearn.metrics.f1_score, {"average": "macro"}),
    "micro F1": (sklearn.metrics.f1_score, {"average": "micro"}),
    "macro F2": (sklearn.metrics.fbeta_score, {"average": "macro", "beta": 2.0}),
    "macro precision": (sklearn.metrics.precision_score, {"average": "macro"}),
    "macro recall": (sklearn.metrics.recall_score, {"average": "macro"}),
    "macro Jaccard": (sklearn.metrics.jaccard_score, {"average": "macro"}),
    "weighted F1": (sklearn.metrics.f1_score, {"average": "weighted"}),
    "weighted precision": (sklearn.metrics.precision_score, {"average": "weighted"}),
    "MCC": (sklearn.metrics.matthews_corrcoef, {}),
    "kappa": (sklearn.metrics.cohen_kappa_score, {}),
    "quadratic kappa": (sklearn.metrics.cohen_kappa_score, {"weights": "quadratic"}),
    **{
        f"{name} of torchmetrics, {average}": (kind(task="multiclass", num_classes=4, average=average, **more), {})
        for name, kind, more in (
            ("accuracy", torchmetrics.Accuracy, {}),
            ("F1", torchmetrics.F1Score, {}),
            ("F2", torchmetrics.FBetaScore, {"beta": 2.0}),
            ("precision", torchmetrics.Precision, {}),
            ("recall", torchmetrics.Recall, {}),
            ("Jaccard", torchmetrics.JaccardIndex, {}),
        )
        for average in ("macro", "micro", "weighted")
    },
    "MCC of torchmetrics": (torchmetrics.MatthewsCorrCoef(task="multiclass", num_classes=4), {}),
    "kappa of torchmetrics": (
        torchmetrics.functional.cohen_kappa, {"task": "multiclass", "num_classes": 4, "weights": "quadratic"},
    ),
}  # fmt: skip
OF_TWO = {
    "F1": (sklearn.metrics.f1_score, {}),
    "precision": (sklearn.metrics.precision_score, {}),
    "F1 of torchmetrics": (torchmetrics.F1Score(task="binary"), {}),
    "Jaccard of torchmetrics": (torchmetrics.functional.classification.binary_jaccard_index, {}),
    "MCC": (sklearn.metrics.matthews_corrcoef, {}),
    "MCC of torchmetrics": (torchmetrics.MatthewsCorrCoef(task="binary"), {}),
}


def batch(classes, missing):
    generator = torch.Generator().manual_seed(classes)
    targets = torch.randint(classes, (40,), generator=generator)
    targets = torch.where(targets == missing, 0, targets) if missing else targets
    scores = torch.randn(40, classes, generator=generator) + 1.5 * torch.nn.functional.one_hot(targets, classes)
    if missing:  # this class is neither a target nor a prediction
        scores[:, missing] -= 10
    return scores, targets


def value_of_twin(metric, labels, targets, classes):
    assert isinstance(metric.twin, OfTables)
    ones = torch.ones(1, len(targets), dtype=torch.float64)
    tables = ConfusionTables.of(labels[None], targets, ones, classes)
    return metric.twin.shown(tables, metric.twin.values(tables))[0]


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_twin_has_the_value_of_the_original(name, missing):
    function, options = OF_CLASSES[name]
    metric, (scores, targets) = mg.as_metric(function, **options), batch(4, missing)
    found = value_of_twin(metric, scores.argmax(1), targets, 4)
    torch.testing.assert_close(found, metric(scores.double(), targets).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OF_TWO)
def test_a_twin_of_two_classes_has_the_value_of_the_original(name):
    function, options = OF_TWO[name]
    metric, (scores, targets) = mg.as_metric(function, **options), batch(2, 0)
    scores = scores[:, 1] - scores[:, 0]
    found = value_of_twin(metric, (scores > 0).long(), targets, 2)
    torch.testing.assert_close(found, metric(scores, targets).double(), rtol=1e-6, atol=1e-6)


DEGENERATE = [([0], [0]), ([0], [1]), *itertools.product(([0] * 6, [1] * 6, [0, 1, 0, 0, 1, 0]), repeat=2)]


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize(("labels", "targets"), DEGENERATE)
def test_a_twin_of_two_classes_has_it_where_one_of_them_is_missing(name, labels, targets):
    function, options = OF_TWO[name]
    metric, labels, targets = mg.as_metric(function, **options), torch.tensor(labels), torch.tensor(targets)
    found = value_of_twin(metric, labels, targets, 2)
    torch.testing.assert_close(found, metric(2.0 * labels - 1, targets).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("labels", "targets"), DEGENERATE)
def test_torchmetrics_mcc_of_two_columns_is_that_of_one_score(labels, targets):
    metric, labels, targets = torchmetrics.MatthewsCorrCoef, torch.tensor(labels), torch.tensor(targets)
    metric = mg.as_metric(metric(task="multiclass", num_classes=2))
    found = value_of_twin(metric, labels, targets, 2)
    scores = torch.nn.functional.one_hot(labels, 2).double()
    torch.testing.assert_close(found, metric(scores, targets), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (sklearn.metrics.f1_score, {"average": "macro", "labels": [0, 1]}),
        (sklearn.metrics.balanced_accuracy_score, {"adjusted": True}),
        (sklearn.metrics.f1_score, {"average": "macro", "zero_division": 1.0}),
        (sklearn.metrics.cohen_kappa_score, {"weights": "linear"}),
        (sklearn.metrics.roc_auc_score, {"max_fpr": 0.1}),
        (sklearn.metrics.zero_one_loss, {"normalize": False}),
        (torchmetrics.Accuracy(task="multiclass", num_classes=4, top_k=2), {}),
        (torchmetrics.AUROC(task="binary", thresholds=20), {}),
    ],
)
def test_what_is_set_otherwise_has_none(function, options):
    assert mg.as_metric(function, **options).twin is None


def test_a_copy_of_which_nothing_is_known_has_none():
    metric = mg.as_metric(sklearn.metrics.balanced_accuracy_score)
    assert metric.twin is not None
    assert metric.undescribed().twin is None
    assert mg.as_metric(sklearn.metrics.balanced_accuracy_score, reads="scores").twin is None


@pytest.mark.parametrize("ignored", [-100, 255, 0])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: torchmetrics.F1Score("multiclass", num_classes=3, average="macro", **options),
        lambda **options: torchmetrics.JaccardIndex("multiclass", num_classes=3, **options),
        lambda **options: torchmetrics.AUROC("multiclass", num_classes=3, **options),
    ],
)
def test_what_a_torchmetrics_object_ignores_its_loss_ignores(make, ignored):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(60, 3, generator=g), torch.randint(3, (60,), generator=g)
    targets[torch.rand(60, generator=g) < 0.3] = ignored
    theirs = make(ignore_index=ignored)
    value = theirs(scores.softmax(1), targets)
    torch.testing.assert_close(mg.as_metric(theirs)(scores, targets), value)
    leaf = scores.requires_grad_()
    mg.UniLoss(theirs)(leaf, targets).backward()
    assert leaf.grad.any()
    assert not leaf.grad[targets == ignored].any()


@pytest.mark.parametrize("name", ["f1_score", "jaccard_score"])
def test_an_option_may_be_an_array(name):
    fn, labels = getattr(sklearn.metrics, name), np.array([0, 2])
    metric, targets = mg.as_metric(fn, average="macro", labels=labels), torch.tensor([0, 1, 2, 2])
    assert metric.twin is None
    scores = torch.eye(3)[[0, 1, 1, 2]]
    assert float(metric(scores, targets)) == pytest.approx(fn(targets, [0, 1, 1, 2], average="macro", labels=labels))
