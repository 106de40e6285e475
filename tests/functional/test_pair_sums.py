"""Pair sums equal the sum over all pairs, in value and in every gradient, by either engine."""

import pytest
import torch

from metricgrad.errors import MetricgradError
from metricgrad.functional.kernels import SIGMOID, SIGMOID_SQUARED, SOFTPLUS, Kernel
from metricgrad.functional.pair_sums import Pairs, pair_sum

KERNELS = [SIGMOID, SIGMOID_SQUARED, SOFTPLUS, SIGMOID.derivative(), Kernel((0.0, 0.7), slope=0.3)]


def _points(kind, p=300, n=2000, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(p, generator=g).double(), torch.randn(n, generator=g).double()
    made = {
        "normal": lambda: (x, y),
        "wide": lambda: (40 * x, 40 * y),
        "clustered": lambda: (x + 1e5 * (x > 0), y + 1e5 * (y > 1)),
        "heavy-tailed": lambda: (x / y[:p].abs(), y / (0.1 + y.roll(1).abs()) ** 3),
        "tied": lambda: (x.round(), y.round()),
        "constant": lambda: (torch.zeros(p).double(), torch.zeros(n).double()),
        "huge": lambda: (1e6 * x, 1e6 * y),
    }
    return made[kind]()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["normal", "wide", "clustered", "heavy-tailed", "tied", "constant", "huge"])
def test_the_grid_equals_the_sum_over_pairs(kind, kernel):
    x, y = _points(kind)
    weights = torch.rand(len(y), generator=torch.Generator().manual_seed(1)).double()
    terms = kernel(x[:, None] - y[None, :]) * weights
    found = pair_sum(x, y, weights, kernel, engine="grid")
    assert ((found - terms.sum(1)).abs() <= 1e-7 * (weights.sum() + terms.abs().sum(1))).all()


@pytest.mark.parametrize("count", [3, 60, 300])
@pytest.mark.parametrize("kind", ["normal", "clustered", "tied"])
def test_one_kernel_summed_along_either_side(kind, count):
    x, y = _points(kind, count, 40 * count // 3)
    weights = torch.rand(len(x), generator=torch.Generator().manual_seed(1)).double()
    table, pairs = SIGMOID.derivative()(x[:, None] - y), Pairs(x, y, SIGMOID.derivative())
    torch.testing.assert_close(pairs.over_y(), table.sum(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(pairs.over_x(weights), weights @ table, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["exact", "grid"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_of_every_order_and_argument(engine, kernel):
    g = torch.Generator().manual_seed(2)
    x, y, weights = (torch.randn(k, generator=g).double().requires_grad_() for k in (4, 6, 6))

    def total(x, y, weights):
        return pair_sum(x, y, weights, kernel, engine=engine)

    assert torch.autograd.gradcheck(total, (x, y, weights), atol=1e-4)
    assert torch.autograd.gradgradcheck(total, (x, y, weights), atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_derivative_of_a_kernel_is_its_derivative(kernel):
    z = torch.linspace(-6, 6, 41, dtype=torch.float64, requires_grad=True)
    value = kernel.derivative()(z.detach())
    step = 1e-6
    torch.testing.assert_close(value, (kernel(z.detach() + step) - kernel(z.detach() - step)) / (2 * step))


def test_several_weightings_at_once():
    x, y = _points("normal")
    weights = torch.rand(3, len(y)).double()
    torch.testing.assert_close(pair_sum(x, y, weights), torch.stack([pair_sum(x, y, w) for w in weights]))


def test_nothing_of_pair_size_is_saved():
    x, y = (points.requires_grad_() for points in _points("normal", 500, 4000))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        pair_sum(x, y)
    assert max(sizes) <= 4000


def test_wrong_shapes_are_refused():
    with pytest.raises(MetricgradError, match="weights"):
        pair_sum(torch.zeros(3), torch.zeros(4), torch.zeros(5))


def test_second_derivatives_are_finite_however_far_apart_scores_are():
    z = torch.tensor([-torch.inf, -300.0, 0.0, 300.0], requires_grad=True)
    (slope,) = torch.autograd.grad(SOFTPLUS(z).sum(), z, create_graph=True)
    (curved,) = torch.autograd.grad(slope.sum(), z)
    assert slope.tolist() == [0, 0, 0.5, 1]
    assert curved.tolist() == [0, 0, 0.25, 0]
