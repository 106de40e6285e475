"""Wide linear layers under SGD: their weights' gradients stay factors, and the hypergradient is the same."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import metricgrad as mg
from metricgrad.aligners.lookahead.outer_products import LinearTaps, OuterProducts
from tests.aligners.lookahead import unrolled

ROWS, WIDE = 6, 40


class Tied(nn.Module):
    """One weight, read twice by a layer and once by a product of matrices."""

    def __init__(self):
        super().__init__()
        self.first, self.layer, self.out = nn.Linear(8, WIDE), nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 3)

    def forward(self, x):
        x = torch.tanh(self.layer(torch.tanh(self.first(x))))
        return self.out(self.layer(x) + x @ self.layer.weight)


class Elsewhere(Tied):
    """Reads a weight in training as it does not in validation."""

    def forward(self, x):
        x = torch.tanh(self.layer(torch.tanh(self.first(x))))
        return self.out(x @ self.layer.weight.t() if len(x) == ROWS else self.layer(x))


class Checkpointed(Tied):
    """Computes a layer again on the way back, but not for the reference, whose weights are gone by then."""

    again = True

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.out(checkpoint(self.layer, x, use_reentrant=False) if self.again else self.layer(x))


class Inner(Tied):
    """Looks at a gradient of its own on the way."""

    def forward(self, x):
        x = torch.tanh(self.first(x))
        if torch.is_grad_enabled():
            x = x + 0.1 * torch.autograd.grad(self.layer(x).square().sum(), self.layer.weight)[0].mean()
        return self.out(torch.tanh(self.layer(x)))


class Transformed(Tied):
    """Has a wide layer inside a function transform."""

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.out(torch.func.vmap(self.layer)(x))


def _plain(*middle, bias=True):
    layers = nn.Sequential(nn.Linear(8, WIDE, bias=bias), nn.Linear(WIDE, WIDE, bias=bias), *middle)
    return nn.Sequential(layers, nn.Linear(WIDE, 3))


def _masked():
    model = _plain(nn.Tanh())
    model[0][1].weight.register_hook(lambda gradient: gradient * 1.0)
    return model


def _compiled():
    model = _plain(nn.Tanh())
    model[0][1].compile(backend="eager")
    return model


def _frozen():
    model = nn.Sequential(nn.Linear(8, WIDE), nn.ReLU(inplace=True), nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 3))
    model[0].weight.requires_grad_(False)
    return model


def _hooked():
    model = _plain(nn.Tanh())
    model[0][1].register_forward_hook(lambda module, args, output: output.square())
    return model


MODELS = {
    "layers": lambda: _plain(nn.Tanh()),
    "no bias": lambda: _plain(nn.Tanh(), bias=False),
    "written over": lambda: _plain(nn.ReLU(inplace=True)),
    "dropout": lambda: _plain(nn.Dropout(0.5), nn.Linear(WIDE, WIDE)),
    "hooked": _hooked,
    "tied": Tied,
    "elsewhere": Elsewhere,
    "checkpointed": Checkpointed,
    "inner gradient": Inner,
    "transformed": Transformed,
    "hooked gradient": _masked,
    "frozen weight": _frozen,
    "compiled": _compiled,
}


UNTAPPED = ("tied", "checkpointed", "transformed", "hooked gradient", "compiled")


def _batch(seed, rows=ROWS):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 8, generator=generator).double(), torch.randint(3, (rows,), generator=generator)


def _counted(monkeypatch):
    """How often a product was used without being multiplied out."""
    used, linear = [], OuterProducts.linear
    monkeypatch.setattr(OuterProducts, "linear", lambda self, x: used.append(1) or linear(self, x))
    return used


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("micro", [1, 2])
def test_the_hypergradient_is_that_of_whole_gradients(name, micro, monkeypatch):
    used = _counted(monkeypatch)
    torch.manual_seed(0)
    model = MODELS[name]().double()
    weights, biases = ([p for p in model.parameters() if (p.ndim == 2) == both] for both in (True, False))
    groups = [{"params": weights, "lr": 0.02}, *([{"params": biases}] if biases else [])]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    loss = mg.AdaLFL(num_outputs=3).double()
    valid = _batch(9, ROWS + 1)
    loss.attach(model, optimizer, valid=[valid])
    for step in range(3):
        some = [_batch(10 * step + i) for i in range(micro)]
        torch.manual_seed(step)
        model.again = False
        expected = unrolled.hypergradient(model, optimizer, loss.form, some, valid, nn.functional.cross_entropy)
        model.again = True
        torch.manual_seed(step)
        optimizer.zero_grad()
        for x, y in some:
            loss(model(x), y).backward()
        optimizer.step()
        assert unrolled.relative(loss.aligner.last_hypergradient, expected) < 1e-10
    assert bool(used) == (name not in UNTAPPED)


@pytest.mark.parametrize("change", ["clipped", "adam", "one_sided", "small"])
def test_gradients_are_multiplied_out_where_they_must_be(change, monkeypatch):
    used = _counted(monkeypatch)
    model = _plain(nn.Tanh()).double()
    kind = torch.optim.Adam if change == "adam" else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3, exact=change != "one_sided").double()
    loss.attach(model, optimizer, valid=[_batch(9, 50 if change == "small" else ROWS)])
    x, y = _batch(0)
    loss(model(x), y).backward()
    if change == "clipped":
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    assert int(loss.aligner.updates) == 1
    assert not used


def test_the_implied_rate_is_measured_at_every_tenth_look():
    model = _plain(nn.Tanh()).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = mg.AdaLFL(num_outputs=3).double()
    loss.attach(model, optimizer, valid=[_batch(0)])
    x, y = _batch(0)
    for _ in range(11):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    measured = [not math.isnan(row["implied_rate"]) for row in loss.aligner.history]
    assert measured == [True, *[False] * 9, True]


def test_only_backward_passes_that_collect_leave_gradients_out():
    torch.manual_seed(0)
    model = _plain(nn.Tanh()).double()
    x, y = _batch(0)
    parameters = list(model.parameters())
    plain = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
    taps = LinearTaps(model)
    with taps:
        value = nn.functional.cross_entropy(model(x), y)
    for a, b in zip(torch.autograd.grad(value, parameters, create_graph=True), plain, strict=True):
        torch.testing.assert_close(a, b)
        assert a.requires_grad
    assert not taps.found()
    with taps.collecting():
        rest = torch.autograd.grad(value, parameters, allow_unused=True)
    found = taps.found()
    assert {id(p) for p in found} == {id(model[0][0].weight), id(model[0][1].weight)}
    for p, whole, other in zip(parameters, plain, rest, strict=True):
        torch.testing.assert_close(found[p].whole() if p in found else other, whole)
        if p in found:
            torch.testing.assert_close(torch.cat([block for _, block in found[p].blocks()]), whole)
