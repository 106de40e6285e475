"""Sums over classes are worth what the metric of labels is."""

import pytest
import torch

import metricgrad as mg
from metricgrad.metrics.families.class_counts import class_counts
from metricgrad.metrics.of_labels import OfClasses

NAMES = (
    "accuracy", "macro_f1", "weighted_f1", "micro_f1", "fbeta:beta=2.0,average=macro", "jaccard:average=macro",
    "jaccard:average=micro", "balanced_accuracy", "g_mean", "mcc", "kappa",
)  # fmt: skip


def _labels(case):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (30,), generator=generator)
    predicted = torch.where(torch.rand(5, 30, generator=generator) < 0.6, targets, (targets + 1) % 5)
    if case == "one class":
        return torch.zeros_like(predicted), torch.zeros_like(targets), None
    weight = torch.rand(30, generator=generator, dtype=torch.float64) if case == "weights" else None
    return predicted * 3, targets * 3, weight  # classes between them occur nowhere


@pytest.mark.parametrize("case", ["rows", "weights", "one class"])
@pytest.mark.parametrize("name", NAMES)
def test_sums_have_the_metrics_value(name, case):
    metric, (labels, targets, weight) = mg.as_metric(name), _labels(case)
    path = metric.fast_path
    assert isinstance(path, OfClasses)
    assert path.names == "alike"
    ones = torch.ones(30, dtype=torch.float64) if weight is None else weight
    found = path.value(path.terms(class_counts(labels, targets, weight)).sum(-2))
    torch.testing.assert_close(found, metric.of_labels(labels, targets, ones), equal_nan=True)


@pytest.mark.parametrize(
    ("name", "names"),
    [("f1", "kept"), ("fbeta", "kept"), ("quadratic_kappa", "ordered"), ("quadratic_kappa:num_classes=5", "kept")],
)
def test_what_reads_the_names_of_classes_says_so(name, names):
    path = mg.as_metric(name).fast_path
    assert not isinstance(path, OfClasses)
    assert path.names == names
