"""Passes through image models in channels-last memory: the same hypergradient, and not where the place matters."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.channels_last import ChannelsLast

CONTIGUOUS = []


class Viewed(nn.Module):
    """One channel in, a view that channels-last memory does not allow, and dropout, which draws by place."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, stride=2)
        self.drop, self.out = nn.Dropout(dropout), nn.Linear(24, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        CONTIGUOUS.append(x.is_contiguous())
        x = self.drop(self.second(x).relu())
        return self.out(x.view(len(x), -1))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    CONTIGUOUS.clear()


def images(n):
    return torch.randn(n, 1, 8, 8), torch.randint(3, (n,))


def gap(loss, model, optimizer, train, valid):
    ours = loss.aligner.hypergradient(model, optimizer, train, valid)
    reference = loss.aligner.unrolled(model, optimizer, [train], valid)
    a, b = (torch.cat([g.flatten() for g in some]) for some in (ours, reference))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    "rule", [lambda some: torch.optim.SGD(some, lr=0.01), lambda some: torch.optim.AdamW(some, lr=0.01, eps=0.1)]
)
@pytest.mark.parametrize("training", [True, False])
def test_the_hypergradient_of_convolutions_is_the_unrolled_one(rule, training):
    model, loss = Viewed().train(training), mg.AdaLFL(3)
    assert gap(loss, model, rule(model.parameters()), images(16), images(16)) < 1e-4
    assert False in CONTIGUOUS


def test_dropout_by_place_is_that_of_the_step(recwarn):
    """What other masks would give is told apart, at first and where dropout begins only later."""
    model, loss = Viewed(dropout=0.5).eval(), mg.AdaLFL(3)
    optimizer, train, valid = torch.optim.SGD(model.parameters(), lr=0.1), images(16), images(16)
    loss.attach(model, optimizer, valid=[valid])
    for training in (False, True, True):
        model.train(training)
        optimizer.zero_grad()
        loss(model(train[0]), train[1]).backward()
        optimizer.step()
        assert loss.aligner.last_hypergradient
    assert not [w for w in recwarn if "LookAhead" in str(w.message)]


def test_convolutions_elsewhere_are_left_alone():
    """Other dtypes, and images without a batch."""
    with ChannelsLast():
        double = nn.functional.conv2d(torch.randn(2, 3, 5, 5).double(), torch.randn(4, 3, 3, 3).double())
        single = nn.functional.conv2d(torch.randn(3, 5, 5), torch.randn(4, 3, 3, 3))
        last = nn.functional.conv2d(torch.randn(2, 1, 5, 5), torch.randn(4, 1, 3, 3))
    assert double.is_contiguous()
    assert single.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
