"""Trials of a loss that is fitted before training share the fit: what is tuned of it comes afterwards."""

import pytest
import torch

import metricgrad as mg
from metricgrad.comparison import catalogue
from metricgrad.comparison.candidates import maker
from metricgrad.tasks.registry import get_task
from metricgrad.training.reloss_of_task import fitted_on_training, network_of_training


@pytest.fixture
def fits(monkeypatch):
    made = []

    def counted(*given, **options):
        made.append(options["seed"])
        return network_of_training(*given, **options, steps=8, values=8)

    monkeypatch.setitem(catalogue.FITTED_ON_TRAINING, "reloss", counted)
    return made


def test_trials_share_one_fit_and_are_what_fits_of_their_own_would_be(fits):
    task, metric = get_task("digits-noisy"), mg.as_metric("accuracy")
    train, other = task.load(0)[0], task.load(1)[0]
    scores, targets = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10
    make = maker("reloss", task, metric)
    for anchor in (0.3, 0.05):
        alone = fitted_on_training(
            metric, task.model, train, batch_size=task.batch_size, seed=0, anchor=anchor, steps=8, values=8
        )
        found = make({"anchor": anchor}, 0, train)
        assert torch.equal(found(scores, targets), alone(scores, targets))
        assert alone.report()
        with pytest.raises(mg.MetricgradError, match="nothing was measured"):
            found.report()  # which nobody reads of a run, and is a fifth of its time
        with torch.no_grad():  # what a training does to its loss is not the next one's
            for parameter in found.parameters():
                parameter.zero_()
    assert fits == [0]
    make({"anchor": 0.3}, 1, train)
    make({"anchor": 0.3}, 1, other)
    assert fits == [0, 1, 1]


def test_what_a_spec_fixes_is_not_tuned(fits):
    task, metric = get_task("digits-noisy"), mg.as_metric("accuracy")
    train = task.load(0)[0]
    found = maker("reloss:anchor=0.3", task, metric)({}, 0, train)
    assert float(found.network.anchor) == pytest.approx(0.3)
    with pytest.raises(mg.MetricgradError, match=r"anchor is -1; expected a finite number from 0"):
        maker("reloss:anchor=-1", task, metric)({}, 0, train)
