"""ReLoss on real labels: it ranks blocks as the metric does, trains, and comes back from a file as it was."""

import warnings

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from metricgrad.progress import ProgressBar
from metricgrad.tasks.mlp import mlp


def _train(loss, inputs, targets, steps):
    torch.manual_seed(0)
    model = mlp(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(targets), (64,), generator=generator)
        optimizer.zero_grad()
        loss(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module", name="digits")
def _digits():
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    return (torch.as_tensor(inputs).float() / 16)[order], torch.as_tensor(targets)[order]


@pytest.fixture(scope="module", name="stored")
def _stored(digits):
    """Scores of a model that is still young, on rows it has not seen."""
    inputs, targets = digits
    model = _train(CrossEntropy(), inputs[:500], targets[:500], steps=40)
    with torch.no_grad():
        return model(inputs[500:]), targets[500:]


@pytest.fixture(scope="module", name="fitted")
def _fitted(stored):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mg.ReLoss.fit("accuracy", *stored, steps=60)


def test_it_ranks_rows_kept_apart_at_least_as_well_as_cross_entropy(fitted):
    report = fitted.report()
    assert report["correlation"]["value"] > 0.6
    assert report["correlation"]["value"] >= report["cross_entropy"]["value"]
    assert report["error_rate"]["value"] == pytest.approx(1)
    assert report["correlation"]["low"] < report["correlation"]["value"] < report["correlation"]["high"]


def test_a_model_trained_on_it_is_right(fitted, digits):
    inputs, targets = digits
    model = _train(fitted, inputs[:1200], targets[:1200], steps=200)
    with torch.no_grad():
        assert float(mg.as_metric("accuracy")(model(inputs[1200:]), targets[1200:])) > 0.9


def test_it_is_frozen_and_its_gradient_starts_at_the_size_of_cross_entropys(fitted, stored):
    assert not any(parameter.requires_grad for parameter in fitted.parameters())
    scores = (torch.randn(stored[0].shape, generator=torch.Generator().manual_seed(9)) * 0.3).requires_grad_()
    ours, standard = (torch.autograd.grad(f(scores, stored[1]), scores)[0].norm() for f in (fitted, CrossEntropy()))
    assert 0.8 < float(ours / standard) < 1.25


def test_it_comes_back_from_a_file_with_its_report(fitted, stored, tmp_path):
    fitted.save(tmp_path / "loss.safetensors")
    loaded = mg.load_loss(tmp_path / "loss.safetensors")
    assert torch.equal(loaded(*stored), fitted(*stored))
    assert loaded.aligner.report == fitted.report()


def test_the_seed_decides_everything(stored):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (mg.ReLoss.fit("macro_f1", *stored, steps=4, seed=3) for _ in range(2))
    assert torch.equal(first(*stored), second(*stored))
    assert first.report() == second.report()


def test_a_surrogate_that_is_no_better_says_so(stored):
    likelihood = mg.as_metric(torch.nn.functional.cross_entropy, higher_is_better=False, reads="scores", name="nll")
    with pytest.warns(UserWarning, match="cross-entropy will probably serve"):
        loss = mg.ReLoss.fit(likelihood, *stored, steps=2)
    assert not loss.report()["beats_standard"]
    assert loss.report()["cross_entropy"]["value"] == pytest.approx(1)


def test_an_unfitted_loss_has_no_report():
    loss = mg.ReLoss(ProbabilityNetwork(), RankCorrelation("accuracy"))
    with pytest.raises(mg.MetricgradError, match="nothing was measured"):
        loss.report()


@pytest.mark.parametrize("form", [ProbabilityNetwork(), SetNetwork()])
def test_monotone_networks_never_reward_a_worse_score(form):
    loss = mg.Loss(form)
    generator = torch.Generator().manual_seed(1)
    scores, targets = torch.randn(200, generator=generator), torch.randint(2, (200,), generator=generator)
    scores.requires_grad_()
    (slope,) = torch.autograd.grad(loss(scores, targets), scores)
    sign = torch.where(targets == 1, -1.0, 1.0)
    assert float((slope * sign).clamp(max=0).abs().sum()) < 0.02 * float(slope.abs().sum())


def test_a_set_network_does_not_read_the_order_of_rows():
    loss = mg.Loss(SetNetwork())
    scores, targets = torch.randn(50, 4).double(), torch.randint(4, (50,))
    order = torch.randperm(50)
    torch.testing.assert_close(loss(scores, targets), loss(scores[order], targets[order]))


def test_mismatch_is_one_for_the_metric_itself_and_minus_one_for_its_opposite(stored):
    accuracy = mg.as_metric("accuracy")
    assert mg.mismatch(lambda s, t: -accuracy(s, t), accuracy, *stored).value == pytest.approx(1)
    assert mg.mismatch(accuracy, accuracy, *stored).value == pytest.approx(-1)
    found = mg.mismatch(CrossEntropy(), accuracy, *stored)
    assert found.low < found.value < found.high < 1


def test_mismatch_follows_the_direction_of_the_metric(stored):
    error = mg.as_metric(lambda s, t: (s != t).float().mean(), higher_is_better=False, reads="labels", name="error")
    found = mg.mismatch(CrossEntropy(), error, *stored)
    assert found.value == pytest.approx(mg.mismatch(CrossEntropy(), "accuracy", *stored).value)


def test_it_can_regress_the_value_instead_and_comes_back_from_a_file(stored, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = mg.ReLoss.fit("accuracy", *stored, objective="value", steps=60)
    assert loss.report()["correlation"]["value"] > 0.5
    loss.save(tmp_path / "loss.safetensors")
    back = mg.load_loss(tmp_path / "loss.safetensors")
    assert back.aligner.kind == "value_regression"
    assert float(back(*stored)) == float(loss(*stored))


def test_an_unknown_objective_is_named_with_those_there_are(stored):
    with pytest.raises(mg.MetricgradError, match="'ranks'; expected one of correlation, value"):
        mg.ReLoss.fit("accuracy", *stored, objective="ranks")


@pytest.mark.filterwarnings("ignore:this surrogate")
def test_real_targets_are_read_by_the_network_of_errors():
    g = torch.Generator().manual_seed(0)
    targets = torch.randn(300, generator=g)
    loss = mg.ReLoss.fit("mae", targets + torch.randn(300, generator=g), targets, steps=20)
    assert type(loss.form).__name__ == "RegressionNetwork"
    assert loss.report()["correlation"]["value"] > 0.7


@pytest.mark.filterwarnings("ignore:this surrogate")
def test_a_set_network_learns_ndcg():
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(600, generator=g) < 0.3).long()
    scores = torch.randn(600, generator=g) + targets
    loss = mg.ReLoss.fit("ndcg:k=10", scores, targets, steps=60)
    assert loss.report()["correlation"]["value"] > 0.5


def test_fitting_ends_when_patience_does_and_says_how_far_it_is(stored, monkeypatch):
    shown = []
    monkeypatch.setattr(ProgressBar, "update", lambda self, done, *rest: shown.append(done))
    mg.ReLoss.fit("accuracy", *stored, steps=400, patience=1, seed=0)
    assert 0 < max(shown) < 400
