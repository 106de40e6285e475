"""Ten children cost little more than a few: whichever of loop and stack is faster is taken."""

import copy
import time

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from metricgrad.losses.base import CallContext
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.training.population.children import Looped, Stacked
from metricgrad.training.population.start import children_of

CHILDREN, BATCH = 10, 64


class _Sleeping(torch.autograd.Function):
    """The identity, which sleeps as long as it is told, alone or where it is mapped over children."""

    @staticmethod
    def forward(x, alone, mapped):
        time.sleep(alone)
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, slope):
        return slope, None, None

    @staticmethod
    def vmap(info, in_dims, x, alone, mapped):
        time.sleep(mapped)
        return x.clone(), in_dims[0]


class _Slow(nn.Module):
    """Seconds of one child alone, and of all that are mapped."""

    def __init__(self, alone=0.0, mapped=0.0):
        super().__init__()
        self.alone, self.mapped = alone, mapped

    def forward(self, x):
        return _Sleeping.apply(x, self.alone, self.mapped)


class _Operators(TorchDispatchMode):
    """How many tensor operators run, those of the backward pass among them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def _operators(kind, children):
    """Of one step of all children."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)) for _ in range(children)]
    made = kind(models, [ClassificationFamily(10) for _ in models], torch.optim.Adam)
    inputs, targets = torch.randn(children, BATCH, 64), torch.randint(10, (children, BATCH))
    made.step(inputs, targets, CallContext(0, 0, True))  # what is made once is made now
    with _Operators() as operators:
        made.step(inputs, targets, CallContext(1, 1, True))
    return operators.count


def test_a_stacked_step_runs_few_operators_more_for_ten_children_than_for_one():
    """What ten cost in time beside one is measured by ``benchmarks/ala.py``."""
    one = _operators(Looped, 1)
    assert _operators(Looped, CHILDREN) > 0.9 * CHILDREN * one
    assert _operators(Stacked, CHILDREN) < 2 * one


@pytest.mark.parametrize(("slow", "kind"), [({"alone": 0.025}, Stacked), ({"mapped": 0.25}, Looped)])
def test_the_faster_way_is_found_by_timing(slow, kind):
    models = [nn.Sequential(nn.Linear(64, 64), _Slow(**slow), nn.ReLU(), nn.Linear(64, 10)) for _ in range(CHILDREN)]
    inputs, targets = torch.randn(BATCH, 64), torch.randint(10, (BATCH,))
    before = copy.deepcopy([model.state_dict() for model in models])
    forms = [ClassificationFamily(10) for _ in models]
    assert type(children_of(models, forms, torch.optim.Adam, inputs, targets, "auto")) is kind
    for model, begun in zip(models, before, strict=True):
        assert all(torch.equal(value, begun[name]) for name, value in model.state_dict().items())
    assert all(bool((form.counts == 1).all()) for form in forms)
