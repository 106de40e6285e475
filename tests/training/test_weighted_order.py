"""Rows are drawn as often as they weigh, in training and where an aligner looks at validation rows."""

import types

import pytest
import torch

import metricgrad as mg
from metricgrad.training.batches import context_of, loader
from metricgrad.training.fit import fit
from metricgrad.training.reloss_of_task import fitted_on_training
from metricgrad.training.weighted_order import WeightedOrder


def counts(weight, epochs):
    order, generator = WeightedOrder(weight), torch.Generator().manual_seed(0)
    drawn = torch.stack([order.rows(generator) for _ in range(epochs)])
    assert drawn.shape == (epochs, len(weight))
    return torch.stack([row.bincount(minlength=len(weight)) for row in drawn])


def test_as_often_as_they_weigh():
    weight = torch.tensor([0.0, 1.0, 2.0, 5.0, 0.7, 3.3])
    found, expected = counts(weight, 2000), len(weight) * weight / weight.sum()
    assert torch.allclose(found.double().mean(0), expected.double(), atol=0.05)
    assert bool(((found >= expected.floor()) & (found <= expected.ceil())).all())


def test_equal_weights_give_each_row_once():
    assert bool((counts(torch.full((50,), 0.1), 20) == 1).all())
    pair = torch.randn(10, 2), torch.arange(10)
    torch.manual_seed(3)
    plain = [batch[1].tolist() for batch in loader(pair, 4, shuffle=True, name="train")]
    torch.manual_seed(3)
    assert plain == [
        batch[1].tolist() for batch in loader((*pair, torch.full((10,), 7.0)), 4, shuffle=True, name="train")
    ]


def test_order_is_kept_where_rows_are_judged():
    data = torch.randn(6, 2), torch.arange(6), torch.tensor([0, 0, 1, 2, 3, 4])
    (batch,) = loader(data, 10, shuffle=False, name="valid")
    assert batch[1].tolist() == list(range(6))
    assert context_of(data)["sample_weight"].tolist() == [0, 0, 1, 2, 3, 4]
    assert context_of(data[:2]) == {}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.tensor([1.0, -1.0, 1.0]), "runs from -1 to 1"),
        (torch.zeros(3), "sample_weight is zero everywhere"),
        (torch.ones(2), "sample_weight has shape"),
        (torch.tensor([1.0, float("nan"), 1.0]), "weights are finite"),
    ],
)
def test_what_is_no_weight_is_refused(weights, said):
    data = torch.randn(3, 2), torch.tensor([0, 1, 0]), weights
    with pytest.raises(mg.MetricgradError, match=said):
        fit(torch.nn.Linear(2, 2), data, data, metric="accuracy", loss="cross_entropy", progress=False)


@pytest.mark.parametrize("loss", ["cross_entropy", "ala"])
def test_any_loss_learns_from_what_weighs(loss):
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 4, generator=g)
    targets = inputs[:, :3].argmax(1)
    lies = torch.rand(600, generator=g) < 0.45
    targets[lies] = (targets[lies] + 1) % 3
    weights = (~lies).float()
    parts = [(inputs[rows], targets[rows], weights[rows]) for rows in torch.arange(600).tensor_split(2)]
    torch.manual_seed(0)
    result = fit(torch.nn.Linear(4, 3), *parts, metric="accuracy", loss=loss, lr=0.05, epochs=20, progress=False)
    assert result.evaluate(parts[1]) > 0.9
    assert result.valid > 0.9
    assert result.evaluate(parts[1][:2]) < 0.7


def test_a_loss_is_fitted_to_rows_that_weigh(monkeypatch):
    given = {}

    def fitted(metric, scores, targets, **options):
        given.update(targets=targets)
        return types.SimpleNamespace(anchored=lambda anchor: None)

    monkeypatch.setattr(mg.ReLoss, "fitted", fitted)
    data = torch.randn(200, 4), torch.arange(200) % 4, (torch.arange(200) % 4 != 3).float()
    fitted_on_training(mg.as_metric("accuracy"), lambda: torch.nn.Linear(4, 4), data, batch_size=16, seed=0)
    assert set(given["targets"].tolist()) == {0, 1, 2}


def test_children_take_no_weights():
    data = torch.randn(30, 4), torch.arange(30) % 3, torch.ones(30)
    with pytest.raises(mg.MetricgradError, match="train has weights, and a population takes none"):
        fit(torch.nn.Linear(4, 3), data, data, metric="accuracy", loss="ala", children=2, progress=False)
