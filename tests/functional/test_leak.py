"""What is surely wrong keeps a gradient, as the composite that the module states, and nothing else changes."""

import pytest
import torch

from metricgrad.functional.interpolation import power_loss
from metricgrad.functional.leak import LEAK, LIMIT, START, leak, leaky_sigmoid, margins
from metricgrad.refactoring.expectation import expected_change, log_shares, quality_odds, worths


def test_the_gradient_is_that_of_the_stated_composite_and_the_value_that_of_the_decision():
    z = torch.linspace(-120, 60, 73, dtype=torch.float64).requires_grad_()
    value = leaky_sigmoid(z)
    assert torch.equal(value, z.sigmoid())
    (found,) = torch.autograd.grad(value.sum(), z)

    def composite(z):
        return z.sigmoid() - LEAK * torch.nn.functional.softplus(-z - START, threshold=200)

    central = (composite(z + 1e-5) - composite(z - 1e-5)).detach() / 2e-5
    torch.testing.assert_close(found, central, rtol=1e-6, atol=1e-9)
    assert bool((found > 1e-11).all() | (z > 20).any())
    assert float(found[z < -60].min()) > 0.99 * LEAK


@pytest.mark.parametrize("q", [0.5, 1.0])
def test_within_twenty_of_the_threshold_nothing_changes(q):
    z = torch.linspace(-20, 20, 81, dtype=torch.float64).requires_grad_()
    best, span = torch.rand(81, dtype=torch.float64), torch.rand(81, dtype=torch.float64) + 0.1
    found = expected_change(z, best, span, q)
    plain = (best - span * power_loss(z.sigmoid(), q)).sum()
    assert torch.equal(found, plain)
    a, b = (torch.autograd.grad(value, z)[0] for value in (found, plain))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1.0, 300.0, 1e8, 3e38])
def test_shares_and_margins_of_any_size_are_finite_and_point_the_right_way(size):
    scores = (torch.tensor([[1.0, -1.0, 0.5]]) * size).requires_grad_()
    share = log_shares(scores, torch.tensor(0.5))
    assert torch.isfinite(share).all()
    assert share.argmax() == 0
    odds = quality_odds(share, torch.tensor([[0.0, 1.0, 0.0]]))
    expected_change(odds, torch.ones(1), torch.ones(1), 1.0).backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 1] > 0 > scores.grad[0, 0]


def test_a_difference_that_overflowed_is_held_in_value_but_not_in_gradient():
    x, softness = torch.tensor([torch.inf, -4.0], requires_grad=True), torch.tensor(0.5, requires_grad=True)
    found = margins(x, softness)
    assert found.tolist() == [pytest.approx(LIMIT), -8.0]
    found.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_margins_are_twice_differentiable_in_both():
    x, softness = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.tensor(0.7, dtype=torch.float64)
    softness.requires_grad_()
    assert torch.autograd.gradcheck(margins, (x, softness))
    assert torch.autograd.gradgradcheck(margins, (x, softness))


def test_the_odds_of_a_quality_are_those_of_the_expected_worth():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 6, generator=g, dtype=torch.float64)
    worth, *_ = worths(torch.randn(20, 6, generator=g, dtype=torch.float64))
    assert worth.amin(1).eq(0).all()
    assert worth.amax(1).eq(1).all()
    share = log_shares(scores, torch.tensor(1.3))
    expected = (worth * (scores / 1.3).softmax(1)).sum(1)
    torch.testing.assert_close(quality_odds(share, worth).sigmoid(), expected)
    alike, _, none = worths(torch.ones(2, 3))
    assert none.tolist() == [0, 0]
    assert torch.equal(alike, torch.full((2, 3), 0.5))


def test_a_leak_has_no_value():
    z = torch.tensor([-LIMIT, -50.0, 0.0, LIMIT])
    assert torch.equal(leak(z), torch.zeros(4))
