"""Directions pushed through models: forward mode, and what stands in where it is missing or gives another output."""

import warnings

import pytest
import torch
from torch import nn

import metricgrad as mg
from tests.aligners.lookahead import unrolled


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.out = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.cells(x.reshape(len(x), 4, 2))[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(2, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.inner(x.reshape(len(x), 1, 4, 2))
        return self.out(nn.functional.scaled_dot_product_attention(x, x, x).mean((1, 2)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.inner(x[:, None].repeat(1, 4, 1) + torch.arange(4).to(x)[:, None]).mean(1))


class Moody(nn.Module):
    """Another function without gradients, as some fused layers are."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.inner(x)
        return self.out(x.tanh() if torch.is_grad_enabled() else x.sigmoid())


class OwnRule(torch.autograd.Function):
    """Has neither a forward rule nor a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1 - x.tanh() ** 2)


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.inner(x)
        return self.out(OwnRule.apply(x) if self.inner.weight.dtype == torch.float64 and not self.smooth else x.tanh())

    smooth = False


def _worst(model, dtype, **options):
    torch.manual_seed(0)
    model = model().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    loss = mg.AdaLFL(num_outputs=3, **options).to(dtype)
    worst = 0.0
    for step in range(3):
        first, valid = ((torch.randn(9, 8, dtype=dtype), torch.randint(3, (9,))) for _ in range(2))
        torch.manual_seed(step)
        model.smooth = True
        expected = unrolled.hypergradient(model, optimizer, loss.form, [first], valid, nn.functional.cross_entropy)
        torch.manual_seed(step)
        model.smooth = False
        loss.step(model, optimizer, first, valid)
        found = loss.aligner.last_hypergradient
        gap = torch.cat([(a - b).flatten() for a, b in zip(found, expected, strict=True)]).norm()
        worst = max(worst, float(gap / torch.cat([b.flatten() for b in expected]).norm()))
    return worst


@pytest.mark.parametrize(
    ("model", "dtype", "says", "limit"),
    [
        (Attending, torch.float32, None, 1e-5),
        (Recurrent, torch.float32, "forward mode", 1e-5),
        (Layer, torch.float32, None, 1e-5),
        (Layer, torch.float64, None, 1e-10),
        (Moody, torch.float64, "other outputs than the step", 1e-10),
        (Foreign, torch.float64, "a finite difference", 1e-6),
    ],
)
def test_another_way_is_found_and_said_once(model, dtype, says, limit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert _worst(model, dtype) < limit
    said = [str(w.message) for w in caught if "LookAhead cannot use" in str(w.message)]
    assert len(said) == (says is not None)
    assert says is None or says in said[-1]


@pytest.mark.parametrize("model", [Attending, Recurrent, Layer])
def test_a_one_sided_difference_is_close(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _worst(model, torch.float32, exact=False) < 0.02
        assert _worst(model, torch.float64, exact=False) < 1e-5


def test_a_step_whose_forward_pass_cannot_be_repeated_is_passed_over():
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.calls, self.rests = nn.Linear(8, 3), 0, False

        def forward(self, x):
            self.calls += 1
            return self.out(x) * (1 if self.rests else self.calls)

    torch.manual_seed(0)
    model, loss = Restless(), mg.AdaLFL(num_outputs=3)
    batch = torch.randn(9, 8), torch.randint(3, (9,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    loss.attach(model, optimizer, valid=[batch])
    for step in range(4):
        before = model.out.weight.detach().clone()
        model.rests = step == 3
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss.step(model, optimizer, batch)
        assert ["cannot be repeated" in str(w.message) for w in caught] == [True] * (step == 0)
        assert bool(loss.aligner.last_hypergradient) == model.rests
        assert not torch.equal(before, model.out.weight)
    model.rests = False
    with pytest.raises(mg.MetricgradError, match="no hypergradient of this step: the forward pass of Restless"):
        loss.aligner.hypergradient(model, optimizer, batch)
