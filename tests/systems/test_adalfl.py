"""AdaLFL in loops: attached, resumed, refused, started offline, and toward other objectives."""

import copy
import warnings

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.aligners.static import Static
from metricgrad.losses.base import CallContext
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.composite.residual import LearnedRate, Residual
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from tests.aligners.lookahead import unrolled


def _data(count=8, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(6, 3, generator=generator)
    inputs = [torch.randn(size, 6, generator=generator) for _ in range(count)]
    return [(x, (x @ mix).argmax(1)) for x in inputs]


def _model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 3))


def _train(loss, model, optimizer, batches):
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def _phi(loss):
    return [p.detach().clone() for p in loss.form.parameters()]


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_learns_and_the_loss_moves():
    batches, valid = _data(60), _data(4, seed=0)
    loss = mg.AdaLFL(num_outputs=3, residual=True, lr=1e-2)
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    before = _phi(loss)
    handle = loss.attach(model, optimizer, valid=valid)
    _train(loss, model, optimizer, batches)
    handle.detach()
    assert not _same(before, _phi(loss))
    assert int(loss.aligner.updates) == len(loss.aligner.history) == 60
    assert loss.aligner.history[-1]["objective"] < 0.7 * loss.aligner.history[0]["objective"]
    assert not any(p.requires_grad for p in loss.form.parameters())
    _train(loss, model, optimizer, batches[:1])
    assert int(loss.aligner.updates) == 60, "a detached loss stands still"


def test_the_papers_recipe_is_the_bare_network_at_its_meta_learning_rate():
    with pytest.warns(UserWarning, match=r"offline_start.*keep=1"):
        loss = mg.AdaLFL(num_outputs=3, paper=True)
    assert isinstance(loss.form, NeuralLoss)
    assert loss.aligner.lr == 1e-5
    with pytest.warns(UserWarning, match="chance"):
        assert mg.AdaLFL(num_outputs=3, paper=True, meta_lr=1e-3).aligner.lr == 1e-3
    with pytest.raises(mg.MetricgradError, match="residual is True with paper=True"):
        mg.AdaLFL(num_outputs=3, residual=True, paper=True)


def test_the_persons_step_is_untouched():
    """One step each: with and without the aligner, bit for bit, optimiser state, random state and buffers too."""

    def one_step(attach):
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
        loss = mg.AdaLFL(num_outputs=3)
        valid = torch.utils.data.DataLoader(_data(3), batch_size=None, shuffle=True)
        if attach:
            loss.attach(model, optimizer, valid=valid)
        _train(loss, model, optimizer, _data(1))
        state = [v for s in optimizer.state.values() for v in s.values()]
        return [*model.state_dict().values(), *state, torch.get_rng_state(), *(p.grad for p in model.parameters())]

    assert _same(one_step(True), one_step(False))


@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_goes_on_as_an_undisturbed_one(tmp_path, every):
    batches, valid = _data(7), torch.utils.data.DataLoader(_data(3), batch_size=None, shuffle=True)

    def start():
        model = _model()
        return model, torch.optim.Adam(model.parameters(), lr=0.01), mg.AdaLFL(num_outputs=3, every=every)

    model, optimizer, loss = start()
    loss.attach(model, optimizer, valid=valid)
    torch.manual_seed(5)
    _train(loss, model, optimizer, batches[:4])
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), loss.state_dict(), torch.get_rng_state()))
    loss.save(tmp_path / "loss.safetensors")
    _train(loss, model, optimizer, batches[4:])
    for from_file in (False, True):
        other, other_optimizer, resumed = start()
        other.load_state_dict(saved[0])
        other_optimizer.load_state_dict(copy.deepcopy(saved[1]))
        if from_file:
            resumed = mg.load_loss(tmp_path / "loss.safetensors")
        else:
            resumed.load_state_dict(saved[2])
        resumed.attach(other, other_optimizer, valid=valid)
        torch.set_rng_state(saved[3])
        _train(resumed, other, other_optimizer, batches[4:])
        assert _same(_phi(loss), _phi(resumed))
        assert _same(model.parameters(), other.parameters())


def test_without_validation_batches_the_training_batch_serves():
    (batch,) = _data(1)
    found = []
    for valid in (None, batch):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        loss = mg.AdaLFL(num_outputs=3)
        loss.step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, valid)
        found.append(loss.aligner.last_hypergradient)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_scores_may_be_a_part_of_the_output():
    """A slice and a scale between model and loss, and no validation batches: the same as a model that ends there."""
    batch = (torch.randn(20, 6, dtype=torch.float64), (torch.arange(20) % 2).double())
    found = []
    for inside in (True, False):
        torch.manual_seed(0)
        body = nn.Linear(6, 2).double()
        model = nn.Sequential(body, _Half()) if inside else body
        loss = mg.AdaLFL(kind="binary").double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss.attach(model, optimizer)
        output = model(batch[0])
        loss(output if inside else output[:, 0] / 2, batch[1]).backward()
        optimizer.step()
        found.append(loss.aligner.last_hypergradient)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


class _Half(nn.Module):
    def forward(self, x):
        return x[:, 0] / 2


def test_shared_and_frozen_parameters():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.second.weight = self.first.weight
            self.out.bias.requires_grad_(False)

        def forward(self, x):
            return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))

    torch.manual_seed(0)
    model = Tied().double()
    optimizer = torch.optim.SGD(
        [{"params": [*model.first.parameters()], "lr": 0.5}, {"params": [*model.out.parameters()], "lr": 0.01}]
    )  # the second layer's own bias is in no group
    first, valid = [(x.double(), y) for x, y in _data(2)]
    loss = mg.AdaLFL(num_outputs=3).double()
    found = loss.aligner.hypergradient(model, optimizer, first, valid)
    expected = unrolled.hypergradient(model, optimizer, loss.form, [first], valid, nn.functional.cross_entropy)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_learning_rate_is_that_of_the_step():
    """A scheduler that steps after the optimiser does not reach back."""
    found = []
    for scheduled in (True, False):
        model = _model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
        loss = mg.AdaLFL(num_outputs=3)
        loss.attach(model, optimizer, valid=_data(2))
        for x, y in _data(2):
            torch.manual_seed(3)
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            if scheduled:
                scheduler.step()
        found.append(loss.aligner.history[-1]["hypergradient_norm"])
    assert found[0] < 0.2 * found[1]


def test_gradients_of_zero_stay_finite_under_adam():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].bias.fill_(-100)  # every unit is dead, so every gradient of the first layer is zero
    loss = mg.AdaLFL(num_outputs=3)
    loss.step(model, torch.optim.Adam(model.parameters()), *_data(2))
    assert all(torch.isfinite(g).all() for g in loss.aligner.last_hypergradient)
    assert any(g.any() for g in loss.aligner.last_hypergradient)


@pytest.mark.parametrize(("optimizer", "name"), [(torch.optim.RMSprop, "RMSprop"), (torch.optim.Adagrad, "Adagrad")])
def test_another_optimiser_is_refused_by_name(optimizer, name):
    model = _model()
    loss = mg.AdaLFL()
    with pytest.raises(mg.MetricgradError, match=f"{name}.*SGD.*AdamW"):
        loss.attach(model, optimizer(model.parameters()))
    loss.attach(model, torch.optim.SGD(model.parameters(), lr=0.1)).detach()


def test_what_has_no_parameters_is_refused():
    with pytest.raises(mg.MetricgradError, match="no parameters to move"):
        mg.Loss(HandMade(nn.CrossEntropyLoss()), LookAhead())


def test_scores_of_another_model_are_refused():
    model, other = _model(), _model()
    loss = mg.AdaLFL(num_outputs=3)
    loss.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    ((x, y),) = _data(1)
    with pytest.raises(mg.MetricgradError, match="do not come from"):
        loss(other(x), y)


def test_an_unknown_change_of_gradients_is_said_once_and_moves_nothing():
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3)
    loss.attach(model, optimizer)
    ((x, y),) = _data(1)
    loss(model(x), y).backward()
    model[0].weight.grad.add_(torch.randn(8, 6))
    with pytest.warns(UserWarning, match="passes over this step"):  # it may be another loss's gradient
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.zero_grad()
        loss(model(x), y).backward()
        model[0].weight.grad.add_(torch.randn(8, 6))
        optimizer.step()
    assert int(loss.aligner.updates) == 0


def test_validation_batches_that_run_out_are_refused():
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(mg.MetricgradError, match="generator"):
        mg.AdaLFL().attach(model, optimizer, valid=(batch for batch in _data(1)))
    loss = mg.AdaLFL()
    loss.attach(model, optimizer, valid=[])
    with pytest.raises(mg.MetricgradError, match="no batch"):
        _train(loss, model, optimizer, _data(1))


def test_calls_that_lead_to_no_step_are_forgotten():
    """A loss computed and thrown away, and one whose gradients were zeroed, have no part in the next step."""
    found = []
    for disturbed in (True, False):
        model = nn.Linear(6, 3)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = mg.AdaLFL(num_outputs=3)
        loss.attach(model, optimizer, valid=_data(2))
        batches = _data(3)
        if disturbed:
            loss(model(batches[1][0]), batches[1][1])
            loss(model(batches[2][0]), batches[2][1]).backward()
        _train(loss, model, optimizer, batches[:1])
        found.append(loss.aligner.last_hypergradient)
    assert _same(*found)


@pytest.mark.parametrize("form", [ProbabilityNetwork(), SetNetwork(), Residual("cross_entropy"), LearnedRate()])
def test_other_forms_are_moved_by_the_exact_gradient(form):
    loss = mg.Loss(form, LookAhead(lr=0.1)).double()
    model = nn.Linear(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, valid = [(x.double(), y) for x, y in _data(2)]
    expected = unrolled.hypergradient(model, optimizer, form, [first], valid, nn.functional.cross_entropy)
    before = _phi(loss)
    loss.step(model, optimizer, first, valid)
    for a, b in zip(loss.aligner.last_hypergradient, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert not _same(before, _phi(loss))


def test_the_softness_of_uniloss_is_moved():
    form = mg.UniLoss("macro_f1", softness=1.0).form
    loss = mg.Loss(form, LookAhead(lr=0.1)).double()
    model = nn.Linear(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, valid = [(x.double(), y) for x, y in _data(2)]
    state = copy.deepcopy(model.state_dict())
    (found,) = loss.aligner.hypergradient(model, optimizer, first, valid)

    def ahead(shift):
        model.load_state_dict(state)
        form.log_softness.add_(shift)
        optimizer.zero_grad()
        form(model(first[0]), first[1], call=CallContext(0, 0)).backward()
        optimizer.step()
        form.log_softness.sub_(shift)
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(valid[0]), valid[1]))

    slope = (ahead(1e-4) - ahead(-1e-4)) / 2e-4
    assert float(found) == pytest.approx(slope, rel=1e-3)
    model.load_state_dict(state)
    loss.step(model, optimizer, first, valid)
    assert float(form.log_softness) == pytest.approx(-0.1 if slope > 0 else 0.1, abs=1e-6)


def test_toward_a_metric_the_objective_is_the_metrics_loss():
    objective = mg.UniLoss("macro_f1", softness=1.0).double()
    loss = mg.AdaLFL(num_outputs=3, objective=objective).double()
    model = nn.Linear(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, valid = [(x.double(), y) for x, y in _data(2)]
    smooth = mg.UniLoss("macro_f1", softness=1.0).double()
    expected = unrolled.hypergradient(model, optimizer, loss.form, [first], valid, smooth)
    loss.step(model, optimizer, first, valid)
    for a, b in zip(loss.aligner.last_hypergradient, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_toward_a_fitted_reloss_and_back_from_a_file(tmp_path):
    objective = mg.ReLoss.pretrained("macro_f1").double()
    loss = mg.AdaLFL(num_outputs=3, objective=objective).double()
    model = nn.Linear(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, valid = [(x.double(), y) for x, y in _data(2)]
    expected = unrolled.hypergradient(model, optimizer, loss.form, [first], valid, objective)
    loss.step(model, optimizer, first, valid)
    for a, b in zip(loss.aligner.last_hypergradient, expected, strict=True):
        torch.testing.assert_close(a, b)
    loss.save(tmp_path / "loss.safetensors")
    again = mg.load_loss(tmp_path / "loss.safetensors")
    scores = torch.randn(8, 3, dtype=torch.float64)
    labels = torch.arange(8) % 3
    assert torch.equal(again.aligner.objective(scores, labels), objective(scores, labels))


def test_a_foreign_objective_cannot_be_saved(tmp_path):
    loss = mg.AdaLFL(objective=nn.functional.cross_entropy)
    with pytest.raises(mg.MetricgradError, match="cannot be saved"):
        loss.save(tmp_path / "loss.safetensors")


def test_offline_start_teaches_the_loss_and_draws_from_the_seed_alone():
    batches = _data(6)

    def started():
        loss = mg.AdaLFL(num_outputs=3)
        state = torch.get_rng_state()
        values = loss.offline_start(
            lambda: nn.Linear(6, 3), lambda params: torch.optim.SGD(params, lr=1.0), batches, steps=80, lr=1e-2
        )
        assert torch.equal(state, torch.get_rng_state())
        return loss, values

    (loss, values), (again, _) = started(), started()
    assert sum(values[-10:]) < 0.8 * sum(values[:10])
    assert _same(_phi(loss), _phi(again))
    assert int(loss.aligner.updates) == 0
    assert int(loss.steps) == 0
    frozen = mg.Loss(loss.form)
    assert isinstance(frozen.aligner, Static)


@pytest.mark.parametrize("inner", [1, 2])
def test_a_model_of_the_offline_start_is_kept_for_some_rounds(inner):
    """Round by round by hand: the model and its optimiser go on, and are made anew after ``keep``."""
    batches = _data(6)
    made = []

    def make():
        made.append(nn.Linear(6, 3))
        return made[-1]

    def optimizer(model):
        return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def started(keep, steps):
        made.clear()
        loss = mg.AdaLFL(num_outputs=3)
        loss.offline_start(make, optimizer, batches, steps=steps, inner=inner, keep=keep, lr=1e-2)
        return loss, made[1:]  # the first is only asked for its device

    (alone, first), (kept, models), (anew, others) = started(1, 1), started(2, 3), started(1, 3)
    assert len(models) == 2
    assert len(others) == 3
    assert not torch.equal(first[0].weight, models[0].weight)
    assert not _same(_phi(kept), _phi(anew))
    assert not _same(_phi(alone), _phi(anew))
    one_round, _ = started(1, 1)
    two_rounds, _ = started(2, 1)
    assert _same(_phi(one_round), _phi(two_rounds))


def test_an_offline_start_passes_over_a_model_that_diverges():
    torch.manual_seed(0)
    batches = [(torch.randn(16, 6) * 1e3, torch.randn(16, 2) * 1e3) for _ in range(4)]
    loss = mg.AdaLFL(kind="regression", residual=True).eval()
    with pytest.warns(UserWarning, match="rounds of the offline start taught nothing"):
        loss.offline_start(
            lambda: nn.Linear(6, 2), lambda params: torch.optim.SGD(params, lr=1.0, momentum=0.9), batches, steps=40
        )
    assert all(bool(p.isfinite().all()) for p in loss.form.parameters())
    assert not loss.training


def test_offline_start_of_several_steps_takes_a_factory_of_the_model():
    loss = mg.AdaLFL(num_outputs=3)
    values = loss.offline_start(
        lambda: nn.Linear(6, 3), lambda model: torch.optim.AdamW(model.parameters(), lr=0.1), _data(6),
        steps=3, inner=2,
    )  # fmt: skip
    assert len(values) == 3
    with pytest.raises(mg.MetricgradError, match="LookAhead"):
        mg.UniLoss("f1").offline_start(nn.Identity, torch.optim.SGD, [])


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_unrolled_is_the_same_over_one_step(optimizer):
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    optimizer = optimizer(model.parameters(), lr=0.1)
    first, valid = [(x.double(), y) for x, y in _data(2)]
    loss = mg.AdaLFL(num_outputs=3).double()
    for _ in range(2):
        ours = loss.aligner.hypergradient(model, optimizer, first, valid)
        slow = loss.aligner.unrolled(model, optimizer, [first], valid)
        for a, b in zip(ours, slow, strict=True):
            torch.testing.assert_close(a, b)
        loss.step(model, optimizer, first, valid)


def test_under_bf16_autocast():
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loss = mg.AdaLFL(num_outputs=3)
    loss.attach(model, optimizer, valid=_data(2))
    ((x, y),) = _data(1)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(x)
        assert scores.dtype == torch.bfloat16
        loss(scores, y).backward()
    optimizer.step()
    assert int(loss.aligner.updates) == 1


def test_bf16_autocast_through_batch_norm_is_close_to_float32():
    first, valid = _data(2)
    found = []
    for cast in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = mg.AdaLFL(num_outputs=3)
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            gradients = loss.aligner.hypergradient(model, optimizer, first, valid)
        found.append(torch.cat([g.flatten() for g in gradients]))
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 0.03


def test_a_random_network_stays_as_it_is():
    loss = mg.Loss(NeuralLoss(num_outputs=3))
    before = _phi(loss)
    model = _model()
    loss.step(model, torch.optim.SGD(model.parameters(), lr=0.1), _data(1)[0])
    assert _same(before, _phi(loss))


def test_it_is_watched(tmp_path):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3)
    with pytest.raises(mg.MetricgradError, match="nothing to plot"):
        loss.aligner.plot(tmp_path / "early.png")
    loss.attach(model, optimizer, valid=_data(2))
    _train(loss, model, optimizer, _data(5))
    assert [step for step, _ in loss.aligner.recorded.shapes] == [0, 1, 3]
    assert loss.aligner.plot(tmp_path / "loss.png").stat().st_size > 10_000


def test_the_implied_rate_is_the_learning_rate_where_loss_and_objective_agree():
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = mg.Loss(LearnedRate("cross_entropy"), LookAhead())
    loss.step(model, optimizer, *_data(1) * 2)
    assert loss.aligner.history[0]["implied_rate"] == pytest.approx(1e-3, rel=0.01)


def test_parameters_unfrozen_on_the_way_are_followed():
    model = _model()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3)
    loss.attach(model, optimizer, valid=_data(2))
    _train(loss, model, optimizer, _data(2))
    model[0].requires_grad_(True)
    _train(loss, model, optimizer, _data(3))
    assert int(loss.aligner.updates) == 4, "the first step of the new parameters is passed over"


def test_a_batch_given_to_step_goes_before_those_attached():
    found = []
    first, valid, other = _data(3)
    for attached in ([other], [valid]):
        model = _model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = mg.AdaLFL(num_outputs=3)
        loss.attach(model, optimizer, valid=attached)
        torch.manual_seed(0)
        loss.step(model, optimizer, first, valid if attached[0] is other else None)
        found.append(loss.aligner.last_hypergradient)
    assert _same(*found)
