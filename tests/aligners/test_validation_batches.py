"""Validation batches of any container reach a ``forward`` as they were made, whichever aligner draws them."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.aligners.validation_batches import moved_to


class Rows(NamedTuple):
    """A batch whose parts have names."""

    inputs: Tensor
    note: str
    targets: Tensor


def _rows():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=g)
    return x, x[:, :3].argmax(1)


CONTAINERS = {
    "named tuple": (lambda x, y: Rows(x, "rows", y), lambda b: (b.inputs, b.targets)),
    "dict": (lambda x, y: OrderedDict(inputs=x, targets=y), lambda b: (b["inputs"], b["targets"])),
    "nested": (lambda x, y: [Rows(x, "rows", y), "other"], lambda b: (b[0].inputs, b[0].targets)),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: mg.AdaLFL(3),
        lambda: mg.ALA("accuracy", num_outputs=3, every=2, warm_up=0),
        lambda: mg.ALA("accuracy", num_outputs=3, every=2, warm_up=0, aligner="random_walk"),
    ],
    ids=["AdaLFL", "ALA", "random walk"],
)
def test_a_forward_gets_the_batches_that_were_given(make, container):
    packed, unpacked = CONTAINERS[container]

    def train(valid, forward):
        torch.manual_seed(0)
        x, y = _rows()
        model, loss = nn.Linear(4, 3), make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        handle = loss.attach(model, optimizer, valid=valid, forward=forward)
        for _ in range(6):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        handle.detach()
        return [p.detach().clone() for p in (*model.parameters(), *loss.parameters())]

    def forward(model, batch):
        inputs, targets = unpacked(batch)
        return model(inputs), targets

    x, y = _rows()
    plain = train([(x, y)], None)
    named = train([packed(x, y)], forward)
    assert all(torch.equal(one, other) for one, other in zip(plain, named, strict=True))


def test_every_tensor_goes_to_the_device_and_nothing_else_changes():
    batch = {"rows": Rows(torch.zeros(2), "two", torch.ones(2)), "list": [(torch.zeros(1), None)]}
    found = moved_to(batch, torch.device("meta"))
    assert type(found["rows"]) is Rows
    assert found["rows"].note == "two"
    assert type(found["list"]) is list
    assert type(found["list"][0]) is tuple
    assert found["list"][0][1] is None
    assert {t.device.type for t in (found["rows"].inputs, found["rows"].targets, found["list"][0][0])} == {"meta"}


def test_inputs_that_the_model_does_not_take_as_one_are_named():
    class TwoTowers(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.answer = nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, queries, answers):
            return self.query(queries) @ self.answer(answers).T

    queries, answers, numbers = torch.randn(8, 4), torch.randn(8, 5), torch.arange(8)
    model, loss = TwoTowers(), mg.AdaLFL(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = loss.attach(model, optimizer, valid=[((queries, answers), numbers)])
    with pytest.raises(
        mg.MetricgradError, match=r"inputs are a tuple, which TwoTowers does not take .*; pass forward="
    ):
        _step(loss, model, optimizer, queries, answers, numbers)
    handle.detach()

    loss.attach(model, optimizer, valid=[((queries, answers), numbers)], forward=lambda m, b: (m(*b[0]), b[1]))
    _step(loss, model, optimizer, queries, answers, numbers)


def _step(loss, model, optimizer, queries, answers, numbers):
    optimizer.zero_grad()
    loss(model(queries, answers), numbers).backward()
    optimizer.step()
