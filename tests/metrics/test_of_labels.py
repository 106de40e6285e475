"""Slopes in the confusion table are those of the metric itself, called on the table's cells as weighted rows."""

import pytest
import torch

import metricgrad as mg
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.of_labels import OfTables
from metricgrad.metrics.utilities import slopes_of_labels

OF_CLASSES = (
    "accuracy", "macro_f1", "weighted_f1", "micro_f1", "fbeta:beta=2.0,average=macro", "jaccard:average=macro",
    "balanced_accuracy", "g_mean", "mcc", "kappa", "quadratic_kappa", "quadratic_kappa:num_classes=5", "mean_iou",
    "dice", "mean_iou:background=False", "jaccard:average=weighted",
)  # fmt: skip
OF_TWO = ("f1", "fbeta:beta=0.5", "jaccard", "accuracy", "quadratic_kappa")


def rows(classes, weighted):
    generator = torch.Generator().manual_seed(classes)
    targets = torch.randint(classes, (60,), generator=generator)
    right = torch.rand(60, generator=generator) < 0.6
    labels = torch.where(right, targets, torch.randint(classes, (60,), generator=generator))
    weight = torch.rand(60, generator=generator, dtype=torch.float64) if weighted else torch.ones(60).double()
    return labels, targets, weight


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "classes"), [*((name, 5) for name in OF_CLASSES), *((name, 2) for name in OF_TWO)])
def test_slopes_are_the_derivatives_of_the_metric(name, classes, weighted):
    metric, (labels, targets, weight) = mg.as_metric(name), rows(classes, weighted)
    cell = torch.arange(classes**2)
    table = torch.full((classes**2,), 1e-3, dtype=torch.float64).index_add(0, targets * classes + labels, weight)
    table.requires_grad_()
    value = metric.of_labels((cell % classes)[None], cell // classes, table)[0]
    (expected,) = torch.autograd.grad(value, table)
    expected = expected.reshape(classes, classes)

    assert isinstance(metric.fast_path, OfTables)
    tables = ConfusionTables.of(labels[None], targets, weight[None], classes)
    torch.testing.assert_close(metric.fast_path.values(tables), metric.of_labels(labels[None], targets, weight))
    tables = ConfusionTables.of(labels[None], targets, weight[None], classes, smooth=1.0)
    found = metric.fast_path.at(tables).slopes().rows(torch.arange(classes), table)
    torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1])


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "balanced_accuracy", "kappa", "quadratic_kappa"])
def test_classes_that_occur_nowhere_cost_nothing_and_share_a_column(name):
    labels, targets, _ = rows(5, False)
    metric = mg.as_metric(name)
    found = slopes_of_labels(metric, labels, targets, 1000, of=torch.arange(5))
    few = slopes_of_labels(metric, labels, targets, 65, of=torch.arange(5))
    assert bool((found[:, 5:] == found[:, 5:6]).all())
    torch.testing.assert_close(found[:, :6], few[:, :6])


def test_a_metric_of_two_classes_refuses_more():
    labels, targets, weight = rows(5, False)
    with pytest.raises(mg.MetricgradError, match="more than two classes; take macro_f1"):
        mg.as_metric("f1").fast_path.values(ConfusionTables.of(labels[None], targets, weight[None], 5))


def test_mcc_is_0_where_one_class_is_predicted_whatever_rounding_leaves():
    g, metric = torch.Generator().manual_seed(0), mg.as_metric("mcc")
    scores = torch.nn.functional.one_hot(torch.ones(30, dtype=torch.long), 3).double()
    for _ in range(200):
        targets = torch.randint(0, 3, (30,), generator=g)
        weight = 1e9 * torch.rand(30, generator=g, dtype=torch.float64)
        assert abs(float(metric(scores, targets, sample_weight=weight))) < 1e-6
        loss = mg.UniLoss("mcc")(scores.clone().requires_grad_(), targets, sample_weight=weight)
        assert float(loss.detach()) == pytest.approx(1, abs=1e-6)
