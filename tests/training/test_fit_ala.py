"""ALA in fit: attached with the validation part, resumed exactly, let go afterwards."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from tests.training.test_fit import PowerCutError, dies_after, network, problem, settings, weights, without_seconds


def _loss(learner="auto", form=None):
    return mg.ALA("accuracy", form, 3, every=2, warm_up=1, learner=learner)


def test_the_policy_moves_by_the_validation_part():
    train, valid = problem()
    loss = _loss()
    result = mg.fit(network(), train, valid, **settings(loss=loss))
    history = loss.aligner.history
    assert len(history["metric"]) == 12  # 24 steps, two a period
    assert history["progress"][-1] == 1
    # an epoch ends with a step that is a look at the very model that fit judges
    assert history["metric"][1::2] == pytest.approx([row["valid"] for row in result.history])
    assert any(float(k.parameter) for k in loss.form.knobs().values())
    loss.attach(network(), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)).detach()


@pytest.mark.parametrize("learner", ["bandit", "reinforce"])
def test_an_interrupted_run_ends_where_an_undisturbed_one_does(tmp_path, learner):
    train, valid = problem()
    form = (lambda: CorrelationMatrix(3)) if learner == "reinforce" else (lambda: None)
    whole = _loss(learner, form())
    expected = mg.fit(network(), train, valid, **settings(loss=whole))
    cut = settings(loss=_loss(learner, form()), out=tmp_path, forward=dies_after(28))
    with pytest.raises(PowerCutError):
        mg.fit(network(), train, valid, **cut)
    resumed = _loss(learner, form())
    result = mg.fit(network(), train, valid, **settings(loss=resumed, out=tmp_path))
    assert without_seconds(result.history) == without_seconds(expected.history)
    assert torch.equal(weights(result), weights(expected))
    assert resumed.aligner.history == whole.aligner.history


def test_it_has_a_name():
    train, valid = problem()
    result = mg.fit(network(), train, valid, **settings(loss="ala"))
    assert result.valid > 0.6
