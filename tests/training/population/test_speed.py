"""Ten children cost little more than a few: whichever of loop and stack is faster is taken."""

import copy
import statistics
import time

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.tasks.digits import digits
from metricgrad.training.population.children import Looped, Stacked
from metricgrad.training.population.fit_population import fit_population
from metricgrad.training.population.start import children_of

CHILDREN, BATCH, STEPS, EPOCHS = 10, 64, 10, 4
ROUNDS, MORE = 3, 2


class _SlowWhereMapped(torch.autograd.Function):
    """The identity; where it is mapped over children it takes far longer than one of them at a time."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, slope):
        return slope

    @staticmethod
    def vmap(info, in_dims, x):
        time.sleep(0.25)
        return x.clone(), in_dims[0]


class _Slow(nn.Module):
    def forward(self, x):
        return _SlowWhereMapped.apply(x)


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _step_seconds(children, stacked, epochs):
    """Processor time of a step of all children, the timed first steps included."""
    train, valid, _ = digits.load(0)
    rows = tuple(part[: STEPS * BATCH] for part in train)
    begun = time.process_time()
    fit_population(
        digits.model, rows, valid, metric="accuracy", loss=mg.ALA("accuracy", num_outputs=10), children=children,
        epochs=epochs, batch_size=BATCH, stacked=stacked, progress=False, decision="none",
    )  # fmt: skip
    return (time.process_time() - begun) / (STEPS * epochs)


def _round(number):
    """Ratios of times taken one after the other, every other round in the opposite order."""
    runs = {"one": (1, False, EPOCHS), "stack": (CHILDREN, True, EPOCHS), "auto": (CHILDREN, "auto", EPOCHS)}
    runs["loop"] = (CHILDREN, False, 1)  # the same steps, and fewer are enough of what takes so long
    names = list(runs) if number % 2 else list(runs)[::-1]
    seconds = {name: _step_seconds(*runs[name]) for name in names}
    return seconds["auto"] / min(seconds["loop"], seconds["stack"]), seconds["auto"] / seconds["one"]


@pytest.mark.usefixtures("_one_thread")
def test_ten_small_children_cost_at_most_four_and_no_more_than_the_faster_way():
    _step_seconds(2, True, 1)  # what is loaded once is loaded now
    rounds = [_round(number) for number in range(ROUNDS)]
    for number in range(MORE):
        to_faster, to_one = (statistics.median(ratios) for ratios in zip(*rounds, strict=True))
        if to_faster <= 1.25 and to_one <= 4:
            break
        rounds.append(_round(number))  # a busy machine: look longer, at the same bar
    to_faster, to_one = (statistics.median(ratios) for ratios in zip(*rounds, strict=True))
    assert to_faster <= 1.25, rounds
    assert to_one <= 4, rounds


@pytest.mark.parametrize(("slow", "kind"), [(nn.Identity, Stacked), (_Slow, Looped)])
def test_the_faster_way_is_found_by_timing(slow, kind):
    models = [nn.Sequential(nn.Linear(64, 64), slow(), nn.ReLU(), nn.Linear(64, 10)) for _ in range(CHILDREN)]
    inputs, targets = torch.randn(BATCH, 64), torch.randint(10, (BATCH,))
    before = copy.deepcopy([model.state_dict() for model in models])
    forms = [ClassificationFamily(10) for _ in models]
    assert type(children_of(models, forms, torch.optim.Adam, inputs, targets, "auto")) is kind
    for model, begun in zip(models, before, strict=True):
        assert all(torch.equal(value, begun[name]) for name, value in model.state_dict().items())
    assert all(bool((form.counts == 1).all()) for form in forms)
