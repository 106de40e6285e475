"""The hypergradient against a hand-written step and autograd through all of it, over three consecutive steps."""

import copy
import functools
import warnings

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.base import CallContext
from tests.aligners.lookahead import unrolled

OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.3),
    "momentum": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "dampening": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, maximize=True),
    "nesterov": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": functools.partial(torch.optim.Adam, lr=0.01),
    "adam with decay": functools.partial(torch.optim.Adam, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95)),
    "amsgrad": functools.partial(torch.optim.Adam, lr=0.01, amsgrad=True, maximize=True),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "amsgrad, decoupled": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, amsgrad=True),
}


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.layer(self.embed(x.reshape(len(x), 4, 2))).mean(1))


def _mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def _cnn():
    return nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
        nn.Linear(24, 3),
    )  # fmt: skip


MODELS = {"mlp": _mlp, "cnn": _cnn, "transformer": Transformer}


def _batches(count, dtype, size=12):
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 8, generator=generator).to(dtype), torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


def _worst(
    model, optimizer, dtype, *, micro=1, factor=1.0, clip=None, value_clip=None, steps=3, anchored=False
):  # fmt: skip
    """The largest relative error over consecutive steps of an ordinary loop."""
    torch.manual_seed(0)
    model = MODELS[model]().to(dtype)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    loss = mg.AdaLFL(num_outputs=3, lr=1e-2, anchored=anchored).to(dtype)
    data = _batches(steps * (micro + 1), dtype)
    valid, train = data[:steps], data[steps:]
    loss.attach(model, optimizer, valid=valid)
    worst = 0.0
    for step in range(steps):
        some = train[step * micro : (step + 1) * micro]
        torch.manual_seed(step)
        expected = unrolled.hypergradient(
            model, optimizer, loss.form, some, valid[step], nn.functional.cross_entropy,
            factor=factor, clip=clip, value_clip=value_clip,
        )  # fmt: skip
        torch.manual_seed(step)
        optimizer.zero_grad()
        for x, y in some:
            (factor * loss(model(x), y)).backward()
        if clip is not None:
            assert nn.utils.clip_grad_norm_(model.parameters(), clip) > clip
        if value_clip is not None:
            nn.utils.clip_grad_value_(model.parameters(), value_clip)
        optimizer.step()
        worst = max(worst, unrolled.relative(loss.aligner.last_hypergradient, expected))
    return worst


LIMITS = {torch.float32: 2e-5, torch.float64: 1e-10}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"clip": 0.001, "micro": 2}, {"micro": 3, "factor": 1 / 3}, {"value_clip": 1e-4}, {"clip": 0.00123}],
)
def test_it_is_the_gradient_through_the_real_step(optimizer, dtype, options):
    assert _worst("mlp", optimizer, dtype, **options) < LIMITS[dtype]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"clip": 0.001, "micro": 2}])
def test_it_goes_through_a_ratio_of_norms(optimizer, options):
    assert _worst("mlp", optimizer, torch.float64, anchored=True, **options) < 1e-10


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", ["cnn", "transformer"])
@pytest.mark.parametrize("options", [{}, {"clip": 0.001}, {"micro": 2}, {"micro": 2, "clip": 0.001}])
@pytest.mark.filterwarnings("ignore:LookAhead cannot use forward mode")
def test_it_goes_through_batch_norm_and_dropout(model, optimizer, dtype, options):
    assert _worst(model, optimizer, dtype, **options) < LIMITS[dtype]


def _setting(dtype=torch.float64, model="cnn", optimizer="adamw", **options):
    torch.manual_seed(0)
    model = MODELS[model]().to(dtype)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    return model, optimizer, mg.AdaLFL(num_outputs=3, **options).to(dtype), _batches(6, dtype)


def _snapshot(model, optimizer, loss):
    states = [v for state in optimizer.state.values() for v in state.values()]
    grads = [p.grad for p in model.parameters()]
    tensors = [*model.state_dict().values(), *states, *loss.state_dict().values(), torch.get_rng_state()]
    return [t.clone() for t in tensors if isinstance(t, torch.Tensor)], [
        None if g is None else g.clone() for g in grads
    ]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:LookAhead cannot use forward mode")
def test_hypergradient_is_that_of_the_next_step_and_leaves_no_trace(model):
    model, optimizer, loss, (first, second, valid, *_) = _setting(model=model)
    loss.step(model, optimizer, first, valid)
    torch.manual_seed(3)
    before, gradients = _snapshot(model, optimizer, loss)
    found = loss.aligner.hypergradient(model, optimizer, second, valid)
    after, same = _snapshot(model, optimizer, loss)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))
    expected = unrolled.hypergradient(model, optimizer, loss.form, [second], valid, nn.functional.cross_entropy)
    assert unrolled.relative(found, expected) < 1e-10
    torch.manual_seed(3)
    loss.step(model, optimizer, second, valid)
    assert unrolled.relative(loss.aligner.last_hypergradient, found) < 1e-12


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["nesterov", "adam with decay"])
@pytest.mark.filterwarnings("ignore:LookAhead cannot use forward mode")
def test_it_agrees_with_finite_differences(model, optimizer):
    """Each step taken anew from the same state with one weight of the loss moved."""
    model, optimizer, loss, (first, second, valid, *_) = _setting(model=model, optimizer=optimizer)
    loss.step(model, optimizer, first, valid)
    torch.manual_seed(3)
    found = loss.aligner.hypergradient(model, optimizer, second, valid)
    state, optimizer_state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())

    def ahead():
        model.load_state_dict(state)
        optimizer.load_state_dict(copy.deepcopy(optimizer_state))
        optimizer.zero_grad()
        torch.manual_seed(3)
        loss.form(model(second[0]), second[1], call=CallContext(0, 0)).backward()
        optimizer.step()
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(valid[0]), valid[1]))

    for parameter, gradient in zip(loss.form.parameters(), found, strict=True):
        place = int(gradient.abs().argmax())
        weight = parameter.view(-1)
        here, values = float(weight[place]), []
        for shift in (1e-5, -1e-5):
            weight[place] = here + shift
            values.append(ahead())
        weight[place] = here
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradient.view(-1)[place]), rel=1e-4, abs=1e-9)


def test_what_it_moves_stays_within_what_the_form_allows():
    from metricgrad.losses.families.correlation_matrix import DOMINANCE, CorrelationMatrix

    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    form = CorrelationMatrix(3)
    loss = mg.Loss(form, LookAhead(lr=1.0))
    inputs, targets = torch.randn(30, 4), torch.arange(30) % 3
    for _ in range(5):
        loss.step(model, optimizer, (inputs, targets), (inputs, targets))
    phi = form.matrix().detach()
    others = phi.abs().sum(1) - phi.diagonal().abs()
    assert float((phi - torch.eye(3)).abs().max()) > 0.1
    assert bool((others <= DOMINANCE * phi.diagonal() + 1e-6).all())


class SlightlyWrong(torch.autograd.Function):
    """The identity, whose backward pass is off by so much."""

    off = 0.0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + SlightlyWrong.off)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent.clone()


class Kinked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(SlightlyWrong.apply(self.inner(x).tanh()))


@pytest.mark.parametrize(
    ("off", "steps", "said"),
    [
        (2e-3, {25}, False),
        (2e-3, {1}, False),
        (2e-3, {25, 26}, True),
        (2e-3, {25, 50}, True),
        (0.2, {25}, True),
    ],
)
def test_one_step_at_a_kink_is_passed_over_without_a_word(off, steps, said):
    torch.manual_seed(0)
    model, x = Kinked(), torch.randn(64, 6)
    y = x[:, :3].argmax(1)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), mg.AdaLFL(num_outputs=3)
    loss.attach(model, optimizer, valid=[(x, y)], total_steps=60)
    moved = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, 61):
            SlightlyWrong.off = off if step in steps else 0.0
            before = [p.clone() for p in loss.form.parameters()]
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            moved.append(any(not torch.equal(a, b) for a, b in zip(before, loss.form.parameters(), strict=True)))
    assert {step for step, did in enumerate(moved, 1) if not did} == steps
    assert any("not the derivative" in str(warning.message) for warning in caught) == said


def test_the_gradient_of_a_call_is_not_computed_again(monkeypatch):
    """What an anchored form has computed for the training itself serves its derivative, to the bit."""
    calls, forward = [], mg.forms.NeuralLoss.forward
    monkeypatch.setattr(mg.forms.NeuralLoss, "forward", lambda self, *a, **k: calls.append(1) or forward(self, *a, **k))
    found = []
    for noted in (True, False):
        torch.manual_seed(0)
        model, loss = _mlp(), mg.AdaLFL(num_outputs=3, lr=0.01)
        if not noted:
            monkeypatch.setattr(LookAhead, "before_loss_call", _without_notes)
        optimizer = OPTIMIZERS["adamw"](model.parameters())
        batches = _batches(6, torch.float32)
        handle = loss.attach(model, optimizer, valid=batches[:1])
        loss(model(batches[0][0]), batches[0][1])  # the first looks at more
        before = len(calls)
        for x, y in batches[1:4]:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        found.append((len(calls) - before, [p.clone() for p in loss.form.parameters()]))
        handle.detach()
    (once, learned), (twice, same) = found
    assert twice - once == 3
    assert all(map(torch.equal, learned, same))
    assert int(loss.aligner.updates) == 3


def _without_notes(self, form):
    self._attachment.recorder.before_loss_call(form)
