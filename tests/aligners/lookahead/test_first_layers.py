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
