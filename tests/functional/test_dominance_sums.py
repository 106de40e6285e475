"""Dominance sums equal the sum over pairs, in value and in every gradient."""

import pytest
import torch

from metricgrad.errors import MetricgradError
from metricgrad.functional import dominance_sums
from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.kernels import SIGMOID, SIGMOID_SQUARED, SOFTPLUS


def _dense(x, y, rank_x, rank_y, weights, kernel):
    pairs = kernel(x[:, None] - y[None, :]) * weights
    return torch.stack([((b[None, :] < a[:, None]) * pairs).sum(1) for a, b in zip(rank_x, rank_y, strict=True)])


def _case(p=40, n=600, anchors=3, scale=3.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = scale * torch.randn(p, generator=g).double(), scale * torch.randn(n, generator=g).double()
    rank = torch.randint(400, (anchors, p + n), generator=g)  # with ties, which count as not above
    return x, y, rank[:, :p], rank[:, p:], torch.rand(n, generator=g).double()


@pytest.mark.parametrize("kernel", [SIGMOID, SIGMOID_SQUARED, SOFTPLUS, SIGMOID.derivative()])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 25.0, 1e6])
def test_equals_the_sum_over_pairs(kernel, scale):
    x, y, rank_x, rank_y, weights = _case(scale=scale)
    found = dominance_sum(x, y, rank_x, rank_y, weights, kernel)
    expected = _dense(x, y, rank_x, rank_y, weights, kernel)
    size = _dense(x, y, rank_x + 1000, rank_y, weights, kernel).abs().max()
    assert (found - expected).abs().max() <= 1e-8 * size


def test_gradients_in_every_argument(monkeypatch):
    monkeypatch.setattr(dominance_sums, "_SMALL", 0)  # the separable path, at a size that gradgradcheck can afford
    x, y, rank_x, rank_y, weights = _case(p=4, n=6, anchors=2)
    arguments = tuple(a.requires_grad_() for a in (x, y, weights))

    def total(x, y, weights):
        return dominance_sum(x, y, rank_x, rank_y, weights)

    assert torch.autograd.gradcheck(total, arguments)
    assert torch.autograd.gradgradcheck(total, arguments)


def test_nothing_of_pair_size_is_saved():
    x, y, rank_x, rank_y, weights = _case(p=300, n=6000, anchors=2)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        dominance_sum(x.requires_grad_(), y.requires_grad_(), rank_x, rank_y, weights)
    assert max(sizes) <= 2 * 6000


def test_empty_sides_sum_to_nothing():
    nothing = torch.zeros(0)
    assert dominance_sum(nothing, torch.ones(3), torch.zeros(2, 0), torch.zeros(2, 3)).shape == (2, 0)
    assert dominance_sum(torch.ones(3), nothing, torch.zeros(2, 3), torch.zeros(2, 0)).sum() == 0


def test_ranks_of_another_shape_are_refused():
    with pytest.raises(MetricgradError, match="rank_x"):
        dominance_sum(torch.ones(3), torch.ones(4), torch.zeros(3), torch.zeros(1, 4))
