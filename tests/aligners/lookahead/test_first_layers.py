"""Outputs of first layers that a step has already computed: taken where they are the same, and only there."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.first_layers import FirstLayer
from tests.aligners.lookahead import unrolled


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(40, 20), nn.Linear(20, 3)

    def forward(self, x):
        return self.out(self.first(x.flatten(1)).tanh())


class InPlace(Net):
    def forward(self, x):
        return self.out(self.first(x.flatten(1)).relu_())


class Twice(Net):
    def forward(self, x):
        x = x.flatten(1)
        return self.out(self.first(x).tanh() + self.first(2 * x).sin())


class WithoutBias(Net):
    """Reads the weight beside its layer too."""

    def forward(self, x):
        x = x.flatten(1)
        return self.out((self.first(x) * nn.functional.linear(x, self.first.weight)).tanh())


class Dropped(Net):
    def forward(self, x):
        return self.out(self.first(nn.functional.dropout(x.flatten(1), 0.5)).tanh())


class Hooked(Net):
    def __init__(self):
        super().__init__()
        self.first.register_forward_hook(lambda layer, args, output: 3 * output)


@pytest.mark.parametrize("rate", [{"momentum": 0.9}, {}])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(
    ("model", "taken"),
    [
        (Net, {True}), (InPlace, {False}), (Twice, {True, False}), (WithoutBias, {True, False}), (Dropped, {False}),
        (Hooked, set()),
    ],
)  # fmt: skip
def test_an_output_is_taken_where_it_is_the_same(model, taken, optimizer, rate, monkeypatch):
    seen = set()
    made = FirstLayer.made

    def spied(self, *args):
        seen.add(found := made(self, *args))
        return found

    monkeypatch.setattr(FirstLayer, "made", spied)
    torch.manual_seed(0)
    model = model().double()
    optimizer = optimizer(model.parameters(), lr=0.01, **(rate if optimizer is torch.optim.SGD else {}))
    loss = mg.AdaLFL(num_outputs=3, anchored=False).double()
    for step in range(3):
        batch, valid = ((torch.randn(5, 4, 10, dtype=torch.float64), torch.randint(3, (5,))) for _ in range(2))
        torch.manual_seed(step)
        expected = unrolled.hypergradient(model, optimizer, loss.form, [batch], valid, nn.functional.cross_entropy)
        torch.manual_seed(step)
        loss.step(model, optimizer, batch, valid)
        assert unrolled.relative(loss.aligner.last_hypergradient, expected) < 1e-9
    assert seen == taken


def _hypergradients(compiled):
    torch.manual_seed(0)
    model = Net()
    if compiled == "a part":
        model.first.compile(backend="eager")
    run = torch.compile(model, backend="eager") if compiled == "whole" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3)
    found = []
    rows = [(torch.randn(8, 4, 10), torch.randint(3, (8,))) for _ in range(4)]
    handle = loss.attach(run, optimizer, valid=rows[:1])
    if compiled == "later":
        model.compile(backend="eager")
    for x, y in rows[1:]:
        optimizer.zero_grad()
        loss(run(x), y).backward()
        optimizer.step()
        found += loss.aligner.last_hypergradient
    handle.detach()
    return found


@pytest.mark.parametrize("compiled", ["whole", "a part", "later"])
def test_a_compiled_model_looks_ahead_as_it_does_without(compiled):
    for there, here in zip(_hypergradients(compiled), _hypergradients(None), strict=True):
        torch.testing.assert_close(there, here)


def test_only_first_layers_keep_a_hook():
    """torch takes faster ways through modules without any."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3)
    x, y = torch.randn(8, 6), torch.randint(3, (8,))
    handle = loss.attach(model, optimizer, valid=[(x, y)])
    loss(model(x), y).backward()
    assert [len(layer._forward_hooks) for layer in model[0]] == [1, 0, 0]
    handle.detach()
    assert not model[0][0]._forward_hooks
