"""Several steps ahead: against finite differences of the training itself, and what it refuses."""

import copy

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.networks.neural import NeuralLoss

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, dampening=0.3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, amsgrad=True),
}


def _data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 5, generator=generator, dtype=torch.float64)
    return x, x[:, :3].argmax(1)


def _net(dropout=0.0):
    torch.manual_seed(1)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double()


def _steps(loss, model, optimizer, count, *, accumulate=1):
    """Training as a user writes it, with a schedule, and part of the model's output as scores."""
    x, y = _data()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    for number in range(count):
        optimizer.zero_grad()
        for part in range(accumulate):
            rows = torch.arange(16) + 16 * ((number + part) % 4)
            (loss(2 * model(x[rows]), y[rows]) / accumulate).backward()
        optimizer.step()
        schedule.step()


def _judge(model, batch):
    """Validation passes leave the dropout out, so that they draw nothing."""
    x, y = batch
    for layer in (0, 1, 2, 4):
        x = model[layer](x)
    return 2 * x, y


def _valid():
    x, y = _data()
    return x[80:], y[80:]


def _trained(form, make, aligner=None, accumulate=1):
    model = _net(dropout=0.2)
    loss, optimizer = mg.Loss(form, aligner), make(model.parameters())
    if aligner is not None:
        loss.attach(model, optimizer, valid=[_valid()], forward=_judge)
    torch.manual_seed(5)
    _steps(loss, model, optimizer, 3, accumulate=accumulate)
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_is_the_slope_of_the_training_itself(optimizer, accumulate):
    make, start = OPTIMIZERS[optimizer], NeuralLoss(3).double()
    aligner = LookAhead(steps=3)
    model = _trained(copy.deepcopy(start), make, aligner, accumulate)
    plain = _trained(copy.deepcopy(start), make, accumulate=accumulate)
    for a, b in zip([*model.parameters(), *model.buffers()], [*plain.parameters(), *plain.buffers()], strict=True):
        assert torch.equal(a, b)  # the user's own steps are untouched
    assert int(aligner.updates) == 1
    generator = torch.Generator().manual_seed(3)
    way = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in start.parameters()]

    def reached(size):
        form = copy.deepcopy(start)
        with torch.no_grad():
            for p, d in zip(form.parameters(), way, strict=True):
                p.add_(d, alpha=size)
        scores, targets = _judge(_trained(form, make, accumulate=accumulate), _valid())
        return float(nn.functional.cross_entropy(scores, targets).detach())

    difference = (reached(1e-6) - reached(-1e-6)) / 2e-6
    along = sum(float((g * d).sum()) for g, d in zip(aligner.last_hypergradient, way, strict=True))
    assert along == pytest.approx(difference, rel=1e-4)
    assert aligner.history[-1]["gradient_norm"] > 0


def test_it_is_what_unrolling_by_hand_gives():
    make, (x, y) = OPTIMIZERS["adamw"], _data()
    far = mg.Loss(NeuralLoss(3).double(), LookAhead(steps=2))
    model = _net()
    optimizer = make(model.parameters())
    both = far.aligner.unrolled(model, optimizer, [(x[:16], y[:16]), (x[16:32], y[16:32])], _valid())
    far.attach(model, optimizer, valid=[_valid()])
    for rows in (slice(16), slice(16, 32)):
        optimizer.zero_grad()
        far(model(x[rows]), y[rows]).backward()
        optimizer.step()
    for a, b in zip(far.aligner.last_hypergradient, both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-13)


def test_windows_follow_each_other_and_every_leaves_steps_out():
    loss = mg.AdaLFL(3, steps=2, every=3).double()
    model = _net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    loss.attach(model, optimizer, valid=[_valid()])
    _steps(loss, model, optimizer, 9)
    assert [row["step"] for row in loss.aligner.history] == [1, 4, 7]
    assert mg.AdaLFL(3, steps=2).aligner.config()["steps"] == 2


def test_step_by_step_with_validation_batches_given_by_hand():
    loss, (x, y) = mg.AdaLFL(3, steps=2).double(), _data()
    model = _net()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    loss.attach(model, optimizer)
    for start in (0, 16, 32, 48):
        loss.step(model, optimizer, (x[start : start + 16], y[start : start + 16]), _valid())
    assert int(loss.aligner.updates) == 2


def test_a_step_without_the_loss_breaks_a_window():
    loss, (x, y) = mg.AdaLFL(3, steps=2).double(), _data()
    model = _net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    loss.attach(model, optimizer, valid=[_valid()])
    for foreign in (False, True, False, False):
        optimizer.zero_grad()
        scores = model(x[:16])
        (nn.functional.cross_entropy(scores, y[:16]) if foreign else loss(scores, y[:16])).backward()
        optimizer.step()
    assert int(loss.aligner.updates) == 1


def test_what_it_cannot_go_through_is_refused():
    x, y = _data()

    def two_steps(*, clip=False, bent=False, valid=True, model=None):
        model = model or _net()
        loss, optimizer = mg.AdaLFL(3, steps=2).double(), OPTIMIZERS["sgd"](model.parameters())
        loss.attach(model, optimizer, valid=[_valid()] if valid else None)
        for _ in range(2):
            optimizer.zero_grad()
            scores = model(x[:16])
            loss(scores.tanh() if bent else scores, y[:16]).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()

    with pytest.raises(mg.MetricgradError, match="clipped or scaled"):
        two_steps(clip=True)
    with pytest.raises(mg.MetricgradError, match="slices, reshapes"):
        two_steps(bent=True)
    with pytest.raises(mg.MetricgradError, match="no validation batches"):
        two_steps(valid=False)
    with pytest.raises(mg.MetricgradError, match="steps is 0"):
        LookAhead(steps=0)

    with pytest.raises(mg.MetricgradError, match="stays attached"):
        mg.AdaLFL(3, steps=2).double().step(_net(), OPTIMIZERS["sgd"](_net().parameters()), (x, y), _valid())

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.calls = _net(), 0

        def forward(self, x):
            self.calls += 1
            return self.body(x) * self.calls

    with pytest.raises(mg.MetricgradError, match="cannot be repeated"):
        two_steps(model=Counting())
