"""Tensors of learned losses that version 0.1 named otherwise are found, and no others are let through."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.composite.residual import Residual
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.losses.networks.values import RegressionNetwork


def _as_named_before(name: str) -> str:
    return name.replace("network.mlp.", "network.") if ".mlp." in name else name.replace("network.", "")


FORMS = {
    "one network": lambda seed: ListNetwork(seed=seed),
    "the paper's": lambda seed: ProbabilityNetwork(monotone=False, seed=seed),
    "several": lambda seed: SetNetwork(seed=seed),
    "two": lambda seed: RegressionNetwork(seed=seed),
    "layers": lambda seed: TokenNetwork(positions=4, seed=seed),
    "inside another form": lambda seed: Residual(SetNetwork(seed=seed)),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_tensors_load_under_the_names_of_version_0_1(make):
    saved, fresh = make(1), make(2)
    old = {_as_named_before(name): value for name, value in saved.state_dict().items()}
    given = list(old)
    assert old.keys() != saved.state_dict().keys()
    assert not all(torch.equal(a, b) for a, b in zip(saved.parameters(), fresh.parameters(), strict=True))
    fresh.load_state_dict(old)
    assert list(old) == given  # what was handed over is as it was
    for name, value in saved.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_a_name_of_no_version_is_refused():
    form = SetNetwork()
    with pytest.raises(RuntimeError, match="sideways"):
        form.load_state_dict({**form.state_dict(), "sideways.weights.0": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="Missing"):
        mg.Loss(form).load_state_dict({})
