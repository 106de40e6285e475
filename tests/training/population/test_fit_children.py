"""Populations in fit: the best of n children under one policy, in the model that was passed."""

import copy
import math
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.losses.families.distance_mixture import DistanceMixture
from tests.training.test_fit import problem, weights

STILL = {"lr": 1e-12, "epochs": 1}


@pytest.fixture(autouse=True)
def _same_weights_each_time():
    torch.manual_seed(0)


def _network(outputs=3):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, outputs))


def _fit(model=None, data=None, **options):
    settings = {"metric": "accuracy", "children": 3, "epochs": 3, "batch_size": 20, "lr": 0.02, "progress": False}
    settings = settings | {"loss": mg.ALA("accuracy", num_outputs=None, every=3, warm_up=0)} | options
    return mg.fit(_network() if model is None else model, *(data or problem()), **settings)


def _embeddings():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 6
    x = nn.functional.one_hot(y, 6) + 0.5 * torch.randn(120, 6, generator=generator)
    return (x[:60], y[:60]), (x[60:], y[60:])


def test_the_best_child_is_delivered_in_the_model_that_was_passed():
    train, valid = problem()
    model = _network()
    result = _fit(model)
    assert result.model is model
    assert not model.training
    population = result.population
    assert population.best is result
    assert len(population.results) == len(population.histories) == 3
    assert result.valid == max(child.valid for child in population.results) > 0.6
    assert result.evaluate_both(valid).undecided == pytest.approx(result.valid_undecided)
    assert all(child.model is not model for child in population.results[1:])
    assert population.histories[0]["knobs"] != population.histories[1]["knobs"]
    assert mg.fit(_network(), train, valid, metric="accuracy", epochs=1, progress=False).population is None


def test_children_begin_as_the_model_or_as_the_factory_makes_them():
    model = _network()
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    for child in _fit(model, **STILL).population.results:
        for name, value in child.model.state_dict().items():
            torch.testing.assert_close(value, begun[name])
    made = _fit(_network, **STILL)
    assert made.model is made.population.results[0].model
    first, second, third = (weights(child) for child in made.population.results)
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)


def test_a_name_will_do_and_a_run_too_short_for_a_move_says_so():
    with pytest.warns(UserWarning, match="Policy had 0 periods, 3 of them warm-up, and has moved nothing"):
        assert _fit(loss="ala").valid > 0.6


def test_it_resumes_and_comes_back_finished(tmp_path):
    model = _network()
    expected = _fit(copy.deepcopy(model), out=tmp_path, seed=3)
    again = _fit(model, out=tmp_path, seed=3, epochs=3)
    assert again.path == tmp_path
    assert again.history == expected.history
    assert torch.equal(weights(again), weights(expected))
    assert torch.equal(torch.cat([p.detach().flatten() for p in model.parameters()]), weights(expected))
    assert len(again.population.results) == 3
    with pytest.raises(mg.MetricgradError, match="holds another run: initial weights was"):
        _fit(_network(), out=tmp_path, seed=3)


def test_patience_is_of_all_children():
    values = iter([0.5, 0.5, 0.6, 0.5, 0.6, 0.1, 0.1, 0.6, 0.9, 0.9])
    metric = mg.as_metric(lambda scores, targets: next(values), higher_is_better=True, name="scripted")
    loss = mg.ALA("accuracy", num_outputs=None, every=10**6)
    with pytest.warns(UserWarning, match="moved nothing"):
        result = _fit(metric=metric, loss=loss, children=2, epochs=6, patience=2)
    ran = [[round(row["valid"], 3) for row in child.history] for child in result.population.results]
    assert ran == [[0.5, 0.6, 0.6, 0.1], [0.5, 0.5, 0.1, 0.6]]
    assert result.valid == pytest.approx(0.6)


def test_the_decision_is_chosen_or_given_as_for_one_network():
    parts = [(x, (y > 0).long()) for x, y in problem()]
    loss = mg.ALA("f1", num_outputs=None, every=3, warm_up=0)
    model = nn.Sequential(_network(1), nn.Flatten(0))
    chosen = _fit(model, parts, metric="f1", loss=loss, decision="threshold")
    assert {child.decision.kind for child in chosen.population.results} == {"threshold"}
    values = [child.valid for child in chosen.population.results]
    assert values == sorted(values, reverse=True)
    fixed = _fit(model, parts, metric="f1", loss=loss, decision=mg.decisions.Threshold(0.25))
    assert {child.threshold for child in fixed.population.results} == {0.25}
    assert fixed.evaluate(parts[1]) == pytest.approx(fixed.valid)


def test_the_persons_optimiser_is_used_and_seen_to_be_stackable():
    class Everything(torch.optim.SGD):
        """Not one of torch's own: it may look at whole tensors."""

    plain = _fit(optimizer=lambda params: torch.optim.SGD(params, lr=1e-12), epochs=1)
    assert plain.valid < 0.7
    assert not _fit(optimizer=lambda params: Everything(params, lr=0.5)).population.stacked


def test_class_balanced_batches_of_embeddings():
    parts = _embeddings()
    loss = mg.ALA("map_at_r", DistanceMixture(), None, every=5, warm_up=0)
    options = {"metric": "map_at_r", "loss": loss, "batch_size": 12, "epochs": 8}
    result = _fit(nn.Linear(6, 4), parts, per_class=4, **options)
    assert result.population.histories[0]["progress"][-1] == 1
    first, best = result.history[0]["valid"], result.valid
    assert best > first
    with pytest.raises(mg.MetricgradError, match=r"per_class is 11.*a class of 10.*per_class=10"):
        _fit(nn.Linear(6, 4), parts, per_class=11, **{**options, "batch_size": 44})


def test_a_bar_after_two_seconds(capfd, monkeypatch):
    _fit(progress=True)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("metricgrad.progress.PATIENCE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _fit(progress=True)
    assert "population" in capfd.readouterr().err


def test_the_callers_random_state_and_loss_are_left_alone():
    loss = mg.ALA("accuracy", num_outputs=None, every=3, warm_up=0)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = _fit(_network(), loss=loss)
    torch.manual_seed(7)
    _network()
    after = torch.get_rng_state()
    torch.manual_seed(7)
    again = _fit(_network(), loss=mg.ALA("accuracy", num_outputs=None, every=3, warm_up=0))
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(before, after)
    assert first.valid == again.valid
    assert all(float(knob.parameter) == 0 for knob in loss.form.knobs().values())


class Explodes(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 3))

    def forward(self, x):
        return x @ self.weight * math.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"children": 0}, "children is 0"),
        ({"copy_best": 0}, "copy_best is 0"),
        ({"children": None, "copy_best": 2}, "copy_best is 2 without children"),
        ({"children": None, "model": _network}, "model is a function.*children=10"),
        ({"model": 3}, "model is a int; give a module"),
        ({"model": lambda: 3}, "the factory made a int"),
        ({"forward": lambda model, batch: batch}, "forward does not go with children.*into the model"),
        ({"loss": "cross_entropy"}, "loss .*mg.ALA"),
        ({"loss": nn.CrossEntropyLoss()}, "loss is a CrossEntropyLoss.*mg.ALA"),
        ({"loss": mg.UniLoss("accuracy")}, "loss has the aligner Static.*mg.ALA"),
        ({"loss": mg.AdaLFL()}, "loss has the aligner LookAhead.*mg.ALA"),
        ({"device": "abacus"}, "device='abacus' cannot be used here"),
        ({"decision": "best"}, "decision is 'best'"),
        ({"patience": 0}, "patience is 0"),
        ({"lr": 0}, "lr is 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"model": Explodes()}, "non-finite in epoch 0.*lower lr"),
        ({"data": (DataLoader(TensorDataset(*problem()[0])), problem()[1])}, "train is a DataLoader.*as tensors"),
        ({"data": (problem()[0], (problem()[1][0], torch.zeros(3)))}, "valid has 120 inputs but 3 targets"),
    ],
)
def test_what_does_not_go_together_says_what_to_do(change, words):
    with pytest.raises(mg.MetricgradError, match=words):
        _fit(**change)
