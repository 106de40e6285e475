"""A metric of a set, trained on parts of one batch before one step, is said once; nothing else is taken for that."""

import warnings

import pytest
import torch
from torch import nn

import metricgrad as mg


def _warned(loss, step, steps=3):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(24, 4), torch.arange(24) % 3
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handle = loss.attach(model, optimizer, valid=[(x, y)])
        for number in range(steps):
            step(loss, model, optimizer, x, y, number)
        handle.detach()
    return [str(each.message) for each in told if "before one optimiser step" in str(each.message)]


def _accumulated(loss, model, optimizer, x, y, number):
    optimizer.zero_grad(set_to_none=bool(number % 2))
    for part in range(4):
        (loss(model(x[part * 6 : part * 6 + 6]), y[part * 6 : part * 6 + 6]) / 4).backward()
    optimizer.step()


def _whole(loss, model, optimizer, x, y, number):
    value = loss(model(x), y)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


def _added(loss, model, optimizer, x, y, number):
    value = loss(model(x), y) + loss(model(-x), y)
    optimizer.zero_grad(set_to_none=False)
    value.backward()
    optimizer.step()


def _skipped_once(loss, model, optimizer, x, y, number):
    value = loss(model(x), y)
    optimizer.zero_grad()
    value.backward()
    if number != 2:  # as loss scaling leaves out a step
        optimizer.step()


def _microbatched(loss, model, optimizer, x, y, number):
    optimizer.zero_grad()
    mg.microbatched(loss, model, x, y, size=6)
    optimizer.step()


def test_it_is_said_once():
    (said,) = _warned(mg.UniLoss("macro_f1"), _accumulated, steps=6)
    assert said.startswith("the loss was called on 4 batches before one optimiser step, so it trains on macro_f1 of ea")
    assert "mg.microbatched" in said


@pytest.mark.parametrize("step", [_whole, _added, _skipped_once, _microbatched])
def test_other_loops_are_left_in_peace(step):
    assert not _warned(mg.UniLoss("macro_f1"), step, steps=6)


@pytest.mark.parametrize("make", [lambda: mg.UniLoss("accuracy"), lambda: mg.AdaLFL(num_outputs=3)])
def test_means_over_rows_add_up(make):
    assert not _warned(make(), _accumulated)
