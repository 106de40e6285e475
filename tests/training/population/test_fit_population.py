"""A population is its children, stacked or not, under one policy."""

import copy

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.base import CallContext
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.training.population.children import Looped, Stacked
from metricgrad.training.population.fit_population import fit_population
from tests.training.test_fit import problem

RATELESS = ("exponent", "focus", "smoothing")


def _network():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def _fit(loss=None, **options):
    settings = {"metric": "accuracy", "children": 4, "epochs": 3, "batch_size": 20, "lr": 0.02, **options}
    return fit_population(_network, *problem(), loss=loss or _loss(), **settings)


def _loss(aligner="policy", form=None, **options):
    form = form or ClassificationFamily(3, turns=RATELESS)
    return mg.ALA("accuracy", form, 3, aligner=aligner, **{"every": 3, "warm_up": 0, **options})


@pytest.mark.parametrize("turns", [RATELESS, ("balance", "adjustment", "exponent")])
def test_a_stacked_step_is_the_looped_one(turns):
    torch.manual_seed(0)
    models = [_network() for _ in range(3)]
    forms = [ClassificationFamily(3, turns=turns) for _ in models]
    for n, form in enumerate(forms):
        form.exponent.fill_(0.2 * n)
        form.counts += torch.tensor([[70, 20], [60, 30], [50, 40]]) * 10_000  # one batch more makes no difference

    def adam(params):
        return torch.optim.Adam(params, lr=0.05)

    groups = [kind(copy.deepcopy(models), copy.deepcopy(forms), adam) for kind in (Looped, Stacked)]
    inputs, targets = torch.randn(3, 16, 6), torch.randint(3, (3, 16))
    for _ in range(5):
        a, b = (group.step(inputs, targets, CallContext(0, 0)) for group in groups)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    for child in range(3):
        a, b = (group.state_of(child) for group in groups)
        assert a.keys() == b.keys()
        for name, value in a.items():
            torch.testing.assert_close(value, b[name], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(groups[0].scores(inputs[0])[2], groups[1].scores(inputs[0])[2], rtol=1e-2, atol=1e-3)


class Tied(nn.Module):
    """One weight by two names, and a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.full((6,), 2.0), persistent=False)

    def forward(self, x):
        return self.second((self.first(x) * self.scale).tanh())[:, :3]


@pytest.mark.parametrize("stacked", [True, False])
def test_tied_weights_and_buffers_that_are_not_saved(stacked, tmp_path):
    found = fit_population(
        Tied, *problem(), metric="accuracy", loss=_loss(), children=2, epochs=2, lr=0.02, stacked=stacked, out=tmp_path
    )
    assert found.stacked is stacked
    for result in found.results:
        assert result.model.first.weight is result.model.second.weight
        assert result.evaluate_both(problem()[1]).undecided == pytest.approx(result.valid_undecided)


@pytest.mark.parametrize("form", [None, CorrelationMatrix(3)])
@pytest.mark.parametrize("stacked", [True, False])
def test_children_learn_under_one_policy(stacked, form):
    loss = _loss(form=form, learner="reinforce")
    found = _fit(loss, stacked=stacked)
    assert found.stacked is stacked
    values = [result.valid for result in found.results]
    assert values == sorted(values, reverse=True)
    assert found.best.valid > 0.6
    assert found.best.evaluate_both(problem()[1]).undecided == pytest.approx(found.best.valid_undecided)
    periods, knobs = len(found.histories[0]["metric"]), len(loss.form.knobs())
    assert len(loss.aligner.network.state["replay_actions"]) == 4 * knobs * (periods - 1)  # the last move has no reward
    assert found.histories[0]["knobs"] != found.histories[1]["knobs"]


def test_a_bandit_pools_what_the_children_saw(tmp_path):
    loss = _loss(learner="bandit")
    found = _fit(loss)
    assert found.plot(tmp_path / "best.png").stat().st_size > 10_000
    assert len(loss.aligner.bandit.state["gains"]) == 4 * (len(found.histories[0]["metric"]) - 1)


def test_another_population_begins_anew():
    loss = _loss(learner="reinforce", warm_up=1)
    first, again = (_fit(loss, children=2, stacked=False).histories[0] for _ in range(2))
    assert first["progress"] == again["progress"]
    assert all(values[0] == 0 for values in again["knobs"].values())
    assert 0 < loss.aligner.cost()["share"] < 1
    assert int(loss.aligner.network.state["count"]) > 2 * len(first["step"])  # what was learned stays


def test_a_seed_decides_everything():
    first, again, other = (_fit(stacked=True, seed=seed) for seed in (0, 0, 1))
    assert first.histories == again.histories
    assert first.histories != other.histories


@pytest.mark.parametrize("kind", [Looped, Stacked])
def test_the_best_child_replaces_the_worst(kind):
    models = [_network() for _ in range(3)]
    group = kind(models, [ClassificationFamily(3) for _ in models], lambda p: torch.optim.Adam(p, lr=0.1))
    inputs, targets = torch.randn(3, 16, 6), torch.randint(3, (3, 16))
    group.step(inputs, targets, CallContext(0, 0))
    group.copy(2, 0)
    same = torch.stack([inputs[2], inputs[1], inputs[2]]), torch.stack([targets[2], targets[1], targets[2]])
    group.step(*same, CallContext(0, 0))  # moments were copied too, or the next step would differ
    for name, value in group.state_of(0).items():
        torch.testing.assert_close(value, group.state_of(2)[name])
    assert not torch.equal(group.state_of(1)["0.weight"], group.state_of(2)["0.weight"])


def test_population_based_training_is_a_random_walk_with_copies():
    loss = _loss("random_walk", step_size=0.3)
    found = _fit(loss, copy_best=1, stacked=False)
    assert found.best.valid > 0.6
    assert all(len(history["metric"]) == len(found.histories[0]["metric"]) for history in found.histories)


def test_a_model_that_does_not_map_is_looped():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x):
            return self.linear(x) if float(x.sum()) > -1e9 else x[:, :3]

    found = fit_population(Branches, *problem(), metric="accuracy", loss=_loss(), children=2, epochs=1)
    assert not found.stacked


@pytest.mark.parametrize("stacked", [True, False])
def test_knobs_that_begin_apart_and_never_move_are_a_grid(stacked):
    starts = [{}, {"exponent": 0.5}, {"focus": 2.0}, {"exponent": 0.9, "smoothing": 0.1}]
    found = _fit(_loss("random_walk", warm_up=10**9), starts=starts, stacked=stacked)
    knobs = [history["knobs"] for history in found.histories]
    assert all(len(set(values)) == 1 for one in knobs for values in one.values())
    stood = sorted(tuple(round(one[name][0], 3) for name in RATELESS) for one in knobs)
    assert stood == sorted([(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 2.0, 0.0), (0.9, 0.0, 0.1)])
    losses = {round(result.history[0]["train_loss"], 4) for result in found.results}
    assert len(losses) == 4


def test_the_policy_may_be_scored_on_rows_of_its_own():
    train, valid = problem()
    feedback = tuple(part[:37] for part in train)
    steps = -(-len(train[0]) // 20)
    found = _fit(_loss(every=steps), children=2, epochs=1, feedback=feedback, decision="none")
    looked = [history["metric"] for history in found.histories]
    assert looked == [[pytest.approx(result.evaluate(feedback))] for result in found.results]
    assert [result.valid for result in found.results] == [pytest.approx(r.evaluate(valid)) for r in found.results]
    assert looked != [[result.valid] for result in found.results]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"starts": [{}]}, "starts has 1 entries for 4"),
        ({"starts": [{"exponent": 2.0}] * 4}, r"exponent \(0 to 0.95\)"),
        ({"starts": [{"height": 0.0}] * 4}, "height=0.0"),
        ({"loss": mg.UniLoss("accuracy")}, "Static"),
        ({"children": 0}, "children"),
        ({"copy_best": 0}, "copy_best"),
    ],
)
def test_refusals_say_what_was_wrong(options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        _fit(**options)
    with pytest.raises(mg.MetricgradError, match="train is a list"):
        fit_population(_network, [1, 2, 3], problem()[1], metric="accuracy", loss=_loss())


def test_a_form_that_calls_itself_otherwise_is_not_mapped_as_its_parent():
    class Doubled(ClassificationFamily):
        def forward(self, scores, targets, *, call, **context):
            return 2 * super().forward(scores, targets, call=call, **context)

    scores, targets = torch.randn(3, 8, 3), torch.arange(24).view(3, 8) % 3
    plain, doubled = ([kind(3, turns=RATELESS) for _ in range(3)] for kind in (ClassificationFamily, Doubled))
    for form, other in zip(plain, doubled, strict=True):
        form.exponent.fill_(0.3)
        other.exponent.fill_(0.3)
    one, two = (
        type(forms[0]).batched_forward(forms, scores, targets, call=CallContext(0, 0)) for forms in (plain, doubled)
    )
    torch.testing.assert_close(two, 2 * one)
    assert len(set(one.tolist())) == 3
