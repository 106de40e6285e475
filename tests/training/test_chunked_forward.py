"""A forward in chunks: scores and gradients of the whole batch, whoever calls backward()."""

import copy
import inspect
import weakref

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.training.chunked_forward import in_chunks

X, Y = torch.randn(60, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(60) % 4


def net(*before):
    torch.manual_seed(1)
    return nn.Sequential(*before, nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def gradients(model):
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("size", [1, 17, 60])
def test_as_the_whole_batch(size):
    whole, parts, loss = net(), net(), mg.UniLoss("macro_f1")
    chunked, handle = in_chunks(parts, size)
    expected = mg.UniLoss("macro_f1")
    for _ in range(2):
        expected(whole(X), Y).backward()
        loss(parts(X), Y).backward()
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-10, atol=1e-12)
    assert chunked.calls == int(loss.steps) == 2
    assert inspect.signature(parts.forward) == inspect.signature(whole.forward)
    handle.detach()
    assert "forward" not in parts.__dict__


def test_random_numbers_buffers_and_autocast_are_those_of_the_first_pass():
    model = net(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)), nn.Dropout(0.5)).float()
    other = copy.deepcopy(model)
    in_chunks(model, 20)
    results = []
    for scored in (model, lambda x: torch.cat([other(part) for part in x.split(20)])):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            value = mg.UniLoss("accuracy")(scored(X.float()), Y)
        value.backward()
        results.append([value.detach(), torch.rand(1)])
    torch.testing.assert_close(*results, rtol=0, atol=0)
    torch.testing.assert_close(gradients(model), gradients(other), rtol=2e-2, atol=1e-4)
    torch.testing.assert_close(dict(model.named_buffers()), dict(other.named_buffers()), rtol=0, atol=0)


def test_batch_normalisation_is_updated_once_and_spoken_of():
    model = net(nn.BatchNorm1d(6))
    other = copy.deepcopy(model)
    in_chunks(model, 20)
    with pytest.warns(UserWarning, match="statistics are those of a chunk"):
        mg.UniLoss("accuracy")(model(X), Y).backward()
    mg.UniLoss("accuracy")(torch.cat([other(part) for part in X.split(20)]), Y).backward()
    torch.testing.assert_close(dict(model.named_buffers()), dict(other.named_buffers()), rtol=0, atol=0)
    torch.testing.assert_close(gradients(model), gradients(other), rtol=1e-10, atol=1e-12)


class ByHand(nn.Module):
    """Chunks, as one writes them."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.cat([self.net(part) for part in x.split(20)])


@pytest.mark.filterwarnings("ignore:the model has batch normalisation")
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("before", [nn.BatchNorm1d, lambda n: nn.Dropout(0.5)], ids=["batch norm", "dropout"])
def test_adalfl_looks_ahead_through_chunks_as_they_were(before, exact):
    found = []
    for chunked in (True, False):
        torch.manual_seed(2)
        loss = mg.AdaLFL(num_outputs=4, lr=0.05, exact=exact)
        model = net(before(6)) if chunked else ByHand(net(before(6)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        loss.attach(model, optimizer, valid=[(X, Y)], total_steps=3)
        if chunked:
            in_chunks(model, 20)
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(X), Y).backward()
            optimizer.step()
        assert int(loss.aligner.updates) == 3
        found.append([p.detach() for p in (*model.parameters(), *loss.form.parameters())])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


def test_a_copy_scores_with_its_own_parameters():
    model = net()
    in_chunks(model, 20)
    other = copy.deepcopy(model)
    nn.init.zeros_(other[2].weight)
    nn.init.zeros_(other[2].bias)
    assert not other(X).any()
    assert model(X).all()


def test_nothing_but_scores_is_kept_until_backward():
    kept = []

    class Watched(nn.Module):
        def forward(self, x):
            kept.append(weakref.ref(x))
            return x.tanh()

    model = nn.Sequential(nn.Linear(6, 8), Watched(), nn.Linear(8, 4)).double()
    alive = []
    model[1].register_full_backward_pre_hook(lambda *_: alive.append(sum(one() is not None for one in kept)))
    in_chunks(model, 20)
    value = mg.UniLoss("accuracy")(model(X), Y)
    assert [one() for one in kept] == [None, None, None]
    value.backward()
    assert alive
    assert max(alive) <= 1


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4).double()

    def forward(self, x):
        return self.body(x), self.body(x)


def test_what_cannot_be_done_is_refused():
    model = Twice()
    in_chunks(model, 20)
    with pytest.raises(mg.MetricgradError, match=r"forward of Twice gives a tuple for 20 rows; .*model="):
        model(X)
    count = iter(range(100))
    model = nn.Linear(6, 4).double()
    model.forward = lambda x: nn.functional.linear(x, model.weight) + next(count)
    in_chunks(model, 20)
    with pytest.raises(mg.MetricgradError, match="other scores when a chunk is scored again"):
        model(X).sum().backward()
    with pytest.raises(mg.MetricgradError, match="microbatch is 0"):
        in_chunks(net(), 0)
