"""The average of several trainings: mean scores, a decision of its own."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.metrics.as_metric import as_metric
from metricgrad.training.average import Average, averaged
from metricgrad.training.delivery import Delivery
from metricgrad.training.result import FitResult


def constant(value):
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, value)
    return nn.Sequential(model, nn.Flatten(0))


def test_scores_are_the_mean():
    inputs = torch.randn(5, 2)
    models = [nn.Linear(2, 3), nn.Linear(2, 3)]
    torch.testing.assert_close(Average(models)(inputs), (models[0](inputs) + models[1](inputs)) / 2)


def test_the_decision_is_fitted_on_the_mean_scores():
    x = torch.linspace(-1, 1, 60).repeat(2, 1).T.contiguous()
    valid = x, (x[:, 0] > 0.4).long()
    models = [nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)) for _ in range(2)]
    for model, slope in zip(models, (1.0, 3.0), strict=True):
        nn.init.constant_(model[0].weight, slope)
        nn.init.zeros_(model[0].bias)
    metric = as_metric("f1")
    found = averaged([FitResult(model, metric) for model in models], valid, Delivery(metric, "threshold"))
    assert found.decision.kind == "threshold"
    assert 1.4 < found.threshold < 1.8  # 4 x at x = .4, give or take a row
    assert found.evaluate(valid) == 1.0
    assert found.valid_undecided == pytest.approx(float(metric(found.predict_scores(x), valid[1])))


def test_without_a_decision_its_validation_value_is_that_of_the_mean_scores():
    x, targets = torch.randn(40, 2), torch.arange(40) % 2
    metric = as_metric("auroc")
    models = [nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)) for _ in range(3)]
    found = averaged([FitResult(model, metric) for model in models], (x, targets), Delivery(metric, "auto"))
    assert found.decision.kind == "identity"
    assert found.valid == pytest.approx(float(metric(Average(models)(x), targets)))
    assert averaged([FitResult(constant(2.0), metric)], (x, targets), Delivery(metric, "none")).valid == 0.5


def test_an_average_read_plainly_is_not_flattered_by_the_epochs_of_its_parts():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 4, generator=g)
    y = ((x[:, 0] + torch.randn(400, generator=g)) > 1.2).long()
    train, valid = (x[:200], y[:200]), (x[200:], y[200:])
    results = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
        results.append(
            mg.fit(
                network, train, valid, metric="f1", loss="cross_entropy", epochs=12, batch_size=40, lr=0.02,
                progress=False, seed=seed, decision="threshold",
            )
        )  # fmt: skip
    plains = [result.plain() for result in results]
    flattered = [plain.evaluate(valid) - plain.valid_undecided for plain in plains]
    assert sum(flattered) > 0
    average = averaged(results, valid, Delivery(results[0].metric, "threshold", 0)).plain()
    assert average.valid_undecided == pytest.approx(average.evaluate(valid) - sum(flattered) / 3)
