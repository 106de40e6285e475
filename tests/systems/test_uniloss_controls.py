"""Controls of UniLoss: the metric is not called, or answers at random, and neither trains as the metric does."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.systems.by_name import make_loss


def _kappa_after_training(loss):
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 3, generator=g)
    targets = torch.bucketize(inputs.sum(1), torch.tensor([-3.0, -0.5, 0.0, 3.0]))
    torch.manual_seed(0)
    model = nn.Linear(3, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    handle = loss.attach(model, optimizer, total_steps=150)
    for _ in range(150):
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    handle.detach()
    return float(mg.as_metric("quadratic_kappa")(model(inputs), targets))


def test_random_values_ruin_what_the_metric_trains():
    right, random = (_kappa_after_training(make_loss(n, "quadratic_kappa")) for n in ("uniloss", "uniloss_random"))
    assert right > random + 0.1


def test_the_same_scores_get_the_same_random_value():
    metric = make_loss("uniloss_random", "f1").form.form.metric
    scores, targets = torch.randn(3, 20), torch.arange(20) % 2
    values = metric.over(scores, targets)
    assert torch.equal(values, metric.over(scores, targets))
    assert len(values.unique()) == 3
    assert bool(((values >= 0) & (values <= 1)).all())


@pytest.mark.parametrize(("metric", "blind"), [("f1", "accuracy"), ("average_precision", "auroc")])
def test_what_is_never_called_is_a_metric_for_which_all_decisions_are_alike(metric, blind):
    assert make_loss("uniloss_margin", metric).form.form.metric.name == blind
