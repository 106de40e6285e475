"""The policy learns what always helps, draws what its seed says, and goes on as if it had never stopped."""

import math
import time
import warnings

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.policy_network import ACTIONS, PolicyNetwork, gradient
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.knobs.state import FEATURES, coded
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from tests.aligners.lookahead.toys import LEVEL, OneKnob, climb


def _data(n=96, classes=3):
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 5, generator=g)
    return inputs, inputs[:, :classes].argmax(1)


def _trained(loss, steps=30, *, by_hand=False, every=3, start=0, model=None, optimizer=None):
    """Some steps of a plain loop; the batch of a step depends on its number alone."""
    inputs, targets = _data()
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    valid = (inputs[64:], targets[64:])
    handle = None if by_hand else loss.attach(model, optimizer, valid=[valid], total_steps=60)
    for step in range(start, start + steps):
        some = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:16]
        optimizer.zero_grad()
        loss(model(inputs[some]), targets[some]).backward()
        optimizer.step()
        if by_hand and -(step + 1) % every < loss.aligner.settings.evaluations:
            model.eval()
            with torch.no_grad():
                loss.observe(model(valid[0]), valid[1], progress=(step + 1) / 60)
            model.train()
    if handle is not None:
        handle.detach()
    return model, optimizer


def _ala(aligner="policy", **options):
    return mg.ALA("accuracy", num_outputs=3, aligner=aligner, **{"every": 3, "warm_up": 1, **options})


def _knobs(loss):
    return {name: float(knob.parameter) for name, knob in loss.form.knobs().items()}


KINDS = ({"learner": "bandit"}, {"learner": "reinforce"}, {"aligner": "random_walk"})


# ---- learning


@pytest.mark.parametrize("learner", ["reinforce", "bandit"])
@pytest.mark.parametrize("noise", [0.0, 0.0005])
def test_a_knob_that_always_helps_is_turned_up(noise, learner):
    heights = [
        climb(mg.Loss(OneKnob(), Policy(LEVEL, step_size=1e-3, learner=learner, seed=s), seed=s), 100, noise)
        for s in range(5)
    ]
    # a random walk of 97 steps has a deviation of 8
    assert sorted(heights)[2] > 40


def test_a_random_walk_stays_where_chance_has_it():
    heights = [climb(mg.Loss(OneKnob(), RandomWalk(LEVEL, step_size=1e-3, seed=s), seed=s), 100) for s in range(20)]
    assert abs(sum(heights) / 20) < 4 * 8 / math.sqrt(20)
    assert max(map(abs, heights)) < 35


def test_a_metric_that_shall_fall_turns_the_knob_down():
    falling = mg.as_metric(LEVEL, higher_is_better=False)
    assert climb(mg.Loss(OneKnob(), Policy(falling, step_size=1e-3, learner="reinforce")), 100) < -40


def test_the_policy_tells_roles_apart():
    """Of two knobs of different names only the first one moves the metric: up it goes, and the other anywhere."""
    others = []
    for seed in range(6):
        loss = mg.Loss(
            OneKnob(("height", "idle")),
            Policy(LEVEL, step_size=1e-3, lr=3e-3, updates=4, learner="reinforce", seed=seed),
        )
        assert climb(loss, 100) > 60
        others.append(float(loss.form.values[1]))
    assert min(others) < 0 < max(others)


def test_the_gradient_by_hand_is_autograds():
    network, g = PolicyNetwork(0), torch.Generator().manual_seed(1)
    flat = (network.state["weights"].double() + 0.1 * torch.randn(network.state["weights"].shape, generator=g)).double()
    states = torch.randn(7, FEATURES, generator=g, dtype=torch.float64)
    states = torch.cat([states, coded([f"role {n % 3}" for n in range(7)]).double()], 1)
    actions, advantages = torch.randint(ACTIONS, (7,), generator=g), torch.randn(7, generator=g, dtype=torch.float64)
    old = torch.full((7,), 1 / 3, dtype=torch.float64).log()
    found = gradient(flat, states, actions, old, advantages, entropy=0.3, importance=True)
    network.state["weights"] = flat

    def objective(weights):
        network.state.tensors["weights"] = weights
        logs = network.logs(states)
        taken = logs.gather(1, actions[:, None])[:, 0]
        ratio = (taken.detach() - old).exp().clamp(max=2)
        return -(ratio * advantages * taken - 0.3 * (logs.exp() * logs).sum(1)).mean()

    (expected,) = torch.autograd.grad(objective(flat.requires_grad_()), flat)
    torch.testing.assert_close(found, expected)


def test_frozen_acts_and_learns_nothing():
    loss = _ala(frozen=True, learner="reinforce")
    before = loss.aligner.network.state["weights"].clone()
    _trained(loss)
    assert torch.equal(loss.aligner.network.state["weights"], before)
    assert any(_knobs(loss).values())


# ---- the same draws


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("evaluations", [1, 2])
def test_observing_by_hand_is_being_attached(options, evaluations):
    attached, by_hand = (_ala(**options, evaluations=evaluations) for _ in range(2))
    a, _ = _trained(attached)
    b, _ = _trained(by_hand, by_hand=True)
    assert any(_knobs(attached).values())
    assert _knobs(attached) == _knobs(by_hand)
    assert torch.equal(a[0].weight, b[0].weight)
    assert attached.aligner.history["metric"] == by_hand.aligner.history["metric"]


@pytest.mark.parametrize("options", KINDS)
def test_a_seed_decides_everything(options):
    first, again, other = _ala(**options), _ala(**options), _ala(**options, seed=1)
    for loss in (first, again, other):
        _trained(loss)
    assert first.aligner.history == again.aligner.history
    assert first.aligner.history["knobs"] != other.aligner.history["knobs"]


@pytest.mark.parametrize("through_a_file", [True, False])
@pytest.mark.parametrize("learner", ["reinforce", "bandit"])
@pytest.mark.parametrize("form", [lambda: None, lambda: CorrelationMatrix(3)])
def test_a_resumed_run_goes_on_as_an_undisturbed_one(tmp_path, through_a_file, learner, form):
    def fresh():
        return mg.ALA("accuracy", form(), 3, every=3, evaluations=2, warm_up=1, learner=learner)

    whole, half = fresh(), fresh()
    _trained(whole, 40)
    model, optimizer = _trained(half, 20)
    if through_a_file:
        half.save(tmp_path / "loss.safetensors")
        resumed = mg.load_loss(tmp_path / "loss.safetensors")
    else:
        resumed = fresh()
        resumed.load_state_dict(half.state_dict())
    _trained(resumed, 20, start=20, model=model, optimizer=optimizer)
    assert resumed.aligner.history == whole.aligner.history
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name], name


def test_a_policy_serves_another_number_of_classes(tmp_path):
    small = mg.ALA("accuracy", CorrelationMatrix(3), every=3, warm_up=0, learner="reinforce")
    _trained(small)
    small.aligner.save(tmp_path / "policy.safetensors")
    policy = Policy.load(tmp_path / "policy.safetensors", warm_up=0)
    assert policy.frozen
    assert torch.equal(policy.network.state["weights"], small.aligner.network.state["weights"])
    large = mg.Loss(CorrelationMatrix(6), policy)
    for period in range(5):
        large.observe(torch.randn(60, 6), torch.arange(60) % 6, progress=period / 5)
    assert len(large.aligner.history["knobs"]) == 21
    assert torch.equal(policy.network.state["weights"], small.aligner.network.state["weights"])
    with pytest.raises(mg.MetricgradError, match=r"roles exponent, focus.*learned to turn phi"):
        mg.Loss(ClassificationFamily(3, turns=("exponent", "focus")), Policy.load(tmp_path / "policy.safetensors"))


@pytest.mark.parametrize("learner", ["auto", "bandit"])
def test_what_a_bandit_saw_is_not_saved_as_a_policy(tmp_path, learner):
    loss = _ala(learner=learner)
    _trained(loss)
    with pytest.raises(mg.MetricgradError, match="learner='reinforce'"):
        loss.aligner.save(tmp_path / "policy.safetensors")
    assert not (tmp_path / "policy.safetensors").exists()


def test_a_file_of_another_kind_is_no_policy(tmp_path):
    _ala().save(tmp_path / "loss.safetensors")
    with pytest.raises(mg.MetricgradError, match=r"Policy\.save"):
        Policy.load(tmp_path / "loss.safetensors")
    foreign = Policy(LEVEL, learner="reinforce", warm_up=0)
    climb(mg.Loss(OneKnob(), foreign), 3)
    foreign.save(tmp_path / "foreign.safetensors")
    with pytest.raises(mg.MetricgradError, match="pass it again"):
        Policy.load(tmp_path / "foreign.safetensors")
    assert Policy.load(tmp_path / "foreign.safetensors", LEVEL).metric is LEVEL


@pytest.mark.parametrize("learner", ["bandit", "reinforce"])
def test_another_training_begins_anew(learner):
    loss = _ala(warm_up=2, learner=learner)
    model, optimizer = _trained(loss, 30)
    before = _knobs(loss)
    _trained(loss, 7)
    assert loss.aligner.history["step"] == [3, 6]
    assert loss.aligner.history["progress"] == [0.05, 0.1]
    assert _knobs(loss) == before  # the warm-up is there again
    _trained(loss, 60, model=model, optimizer=optimizer)
    _trained(loss, 3, model=model, optimizer=optimizer)  # with the same optimiser, after its last step
    assert loss.aligner.history["step"] == [3]


# ---- what a move is


def test_nothing_moves_in_the_warm_up():
    loss = _ala(warm_up=5)
    model, optimizer = _trained(loss, steps=15)
    assert not any(_knobs(loss).values())
    _trained(loss, steps=15, model=model, optimizer=optimizer)
    assert any(_knobs(loss).values())


def test_knobs_keep_within_their_bounds_unless_told_otherwise():
    for clamp in (True, False):
        loss = _ala("random_walk", step_size=3.0, clamp=clamp)
        _trained(loss)
        inside = all(k.low - 1e-6 <= float(k.parameter) <= k.high + 1e-6 for k in loss.form.knobs().values())
        assert inside is clamp


def test_the_row_dominance_of_a_matrix_is_kept():
    loss = mg.ALA("accuracy", CorrelationMatrix(3), every=1, warm_up=0, step_size=1.0)
    _trained(loss)
    phi = loss.form.matrix()
    assert (phi.abs().sum(1) - phi.diagonal() <= 0.9 * phi.diagonal() + 1e-5).all()
    assert loss.aligner.history["largest"][-1] == pytest.approx(float(phi.abs().max()))


def test_the_papers_settings_come_with_a_warning_and_give_way_to_explicit_ones():
    with pytest.warns(UserWarning, match="collapse"):
        policy = Policy("accuracy", paper=True, every=60)
    assert (policy.settings.every, policy.settings.evaluations, policy.settings.clamp) == (60, 50, False)
    assert policy.rewarding.kind == "sign"
    with pytest.warns(UserWarning, match="collapse"):
        assert Policy("accuracy", paper=True, every=10).settings.evaluations == 10
    with pytest.warns(UserWarning, match="collapse"):
        loss = mg.ALA("accuracy", num_outputs=4, paper=True)
    assert isinstance(loss.form, CorrelationMatrix)
    assert not loss.form.bounded


# ---- what it leaves alone, what it says


def test_looking_leaves_the_model_and_the_random_state_alone():
    inputs, targets = _data()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model[1].eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    valid = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=16, shuffle=True)
    loss = _ala(every=1)
    loss.attach(model, optimizer, valid=valid)
    buffers, state = model[1].running_mean.clone(), torch.get_rng_state()
    for _ in range(3):
        optimizer.step()
    assert loss.aligner.periods == 3
    assert [m.training for m in model] == [True, False, True]
    assert torch.equal(model[1].running_mean, buffers)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_so_many_rows_are_scored():
    seen = []
    inputs, targets = _data()
    model = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = _ala(every=1, rows=20)

    def forward(model, batch):
        seen.append(len(batch[0]))
        return model(batch[0]), batch[1]

    batches = list(zip(inputs.split(8), targets.split(8), strict=True))
    loss.attach(model, optimizer, valid=batches, forward=forward)
    optimizer.step()
    assert seen == [8, 8, 8]


def test_no_feedback_is_said_once():
    model = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = _ala(every=2)
    loss.attach(model, optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(20):
            optimizer.step()
    assert sum("no validation feedback" in str(w.message) for w in caught) == 1


def test_step_takes_a_validation_batch():
    inputs, targets = _data()
    model = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = _ala(every=2)
    for _ in range(6):
        loss.step(model, optimizer, (inputs, targets), (inputs, targets))
    assert loss.aligner.periods == 3
    assert 0 < loss.aligner.cost()["share"] < 1


def test_a_metric_that_is_undefined_says_nothing():
    nothing = mg.as_metric(lambda s, t: s.sum() * torch.nan, higher_is_better=True, reads="scores", name="nothing")
    loss = mg.Loss(OneKnob(), Policy(nothing, warm_up=0))
    loss.observe(torch.zeros(4), torch.zeros(4))
    assert loss.aligner.history["metric"] == []


def test_forms_without_knobs_are_refused_with_the_remedy():
    for aligner in (Policy("accuracy"), RandomWalk("accuracy")):
        with pytest.raises(mg.MetricgradError, match=r"no knobs.*Scaled"):
            mg.Loss(HandMade(nn.CrossEntropyLoss()), aligner)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every"),
        ({"looks": 0}, "evaluations is 0"),
        ({"every": 2, "evaluations": 3}, "evaluations is 3"),
        ({"discount": 0.0}, "discount"),
        ({"step_size": -1.0}, "step_size"),
        ({"reward": "loud"}, "reward"),
        ({"rows": 0}, "rows"),
        ({"every": 2.5}, "every"),
        ({"seed": 0.5}, "seed"),
        ({"lr": -1.0}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"updates": -1}, "updates"),
        ({"batch": 0}, "batch"),
        ({"replay": 0}, "replay"),
        ({"entropy": math.nan}, "entropy"),
    ],
)
def test_settings_out_of_range_are_named(options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        Policy("accuracy", **options)


def test_an_empty_valid_is_named():
    model = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = mg.ALA("accuracy", ClassificationFamily(3), every=1)
    loss.attach(model, optimizer, valid=[])
    with pytest.raises(mg.MetricgradError, match="valid is empty"):
        optimizer.step()


# ---- what it says of a training in which it can do nothing


def _attach(loss, **options):
    model = nn.Linear(5, 3)
    return loss.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), **options), model


def test_a_training_too_short_for_a_move_is_said_at_once():
    with pytest.warns(UserWarning, match="first moves after 12 steps.*total_steps is 11.*more steps.*ala:every="):
        _attach(_ala(every=3, warm_up=3), valid=[_data()], total_steps=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _attach(_ala(every=3, warm_up=3), valid=[_data()], total_steps=12)


def test_a_metric_that_stays_undefined_is_said_once():
    loss = mg.ALA("average_precision", num_outputs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            loss.observe(torch.randn(8), torch.zeros(8).long())
    assert sum("undefined on validation data" in str(w.message) for w in caught) == 1


def test_the_pace_follows_from_the_rows_there_are():
    data = _data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=10)
    for valid in ([data], loader, [(x, y) for x, y in loader]):
        loss = mg.ALA("accuracy", num_outputs=3)
        _attach(loss, valid=valid, total_steps=2000)
        loss.aligner.state.batch = 4
        schedule = loss.aligner.schedule(2000)
        assert (schedule.period, schedule.rows) == (120, 96)  # 96 rows at 0.8 a step; 256 would take 320 steps


@pytest.mark.parametrize("make", [lambda: _ala(every=2), lambda: mg.AdaLFL(3)], ids=["ala", "look ahead"])
@pytest.mark.parametrize(
    "valid",
    [torch.zeros(4, 5), 3, _data(), list(_data()), torch.utils.data.TensorDataset(*_data())],
    ids=["tensor", "number", "pair", "list of two", "dataset"],
)
def test_what_is_no_batches_is_refused_with_the_remedy(make, valid):
    with pytest.raises(mg.MetricgradError, match=r"valid=\[\(inputs, targets\)\]"):
        _attach(make(), valid=valid)


def test_progress_and_total_steps_out_of_range_are_named():
    with pytest.raises(mg.MetricgradError, match="total_steps is -4"):
        _attach(_ala(), total_steps=-4)
    with pytest.raises(mg.MetricgradError, match=r"progress is 7.0"):
        _ala().observe(torch.zeros(4, 3), torch.zeros(4).long(), progress=7.0)


def test_the_clock_stops_at_the_last_step():
    loss = _ala()
    _trained(loss, 6)
    before = loss.aligner.cost()
    time.sleep(0.05)
    assert loss.aligner.cost() == before
    assert 0 < before["share"] < 1


def test_the_former_name_of_evaluations_still_counts_and_says_its_new_one():
    for make in (Policy, RandomWalk):
        with pytest.warns(DeprecationWarning, match="looks is now called evaluations"):
            aligner = make("accuracy", every=5, looks=2)
        assert aligner.settings.evaluations == aligner.config()["evaluations"] == 2
        assert "looks" not in aligner.config()
