"""Interpolations equal their equations, in value and in gradient."""

import pytest
import torch

from metricgrad.functional.interpolation import (
    inverse_distance_weighting,
    power_loss,
    released_gradient,
)


def _anchors(t=6, length=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    soft = torch.rand(length, generator=g, dtype=torch.float64, requires_grad=True)
    bits = (torch.rand(t, length, generator=g) < 0.5).double()
    return soft, bits, torch.rand(t, generator=g, dtype=torch.float64)


def _equation_10(soft, bits, values, power):
    distance = (soft - bits).square().sum(1).sqrt()
    return (values * distance**-power).sum() / (distance**-power).sum()


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_inverse_distances_are_equation_10(power):
    soft, bits, values = _anchors()
    found = inverse_distance_weighting((soft - bits).square().sum(1), values, power)
    expected = _equation_10(soft, bits, values, power)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, soft), torch.autograd.grad(expected, soft), strict=True):
        torch.testing.assert_close(a, b)

    def interpolated(u):
        return inverse_distance_weighting((u - bits).square().sum(1), values, power)

    assert torch.autograd.gradcheck(interpolated, (soft,))
    assert torch.autograd.gradgradcheck(interpolated, (soft,))


def test_exact_at_an_anchor_with_a_finite_gradient():
    _, bits, values = _anchors()
    soft = bits[2].clone().requires_grad_()
    value = inverse_distance_weighting((soft - bits).square().sum(1), values)
    assert value == values[2]
    (gradient,) = torch.autograd.grad(value, soft)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("gap", [1e-4, 1e-10, 1e-18])
def test_close_to_an_anchor_float32_is_finite_and_exact(gap):
    squared = torch.tensor([gap**2, 1.0, 4.0], requires_grad=True)
    value = inverse_distance_weighting(squared, torch.tensor([0.25, 1.0, 0.0]))
    (gradient,) = torch.autograd.grad(value, squared)
    assert float(value) == pytest.approx(0.25, abs=1e-3)
    assert torch.isfinite(gradient).all()


def test_the_released_gradient_adds_the_term_that_should_be_subtracted():
    soft, bits, values = _anchors(seed=3)
    distance = (soft - bits).square().sum(1).sqrt()
    weighted, total = (values / distance).sum(), (1 / distance).sum()
    (slope_w,) = torch.autograd.grad(weighted, soft, retain_graph=True)
    (slope_s,) = torch.autograd.grad(total, soft)
    squared = (soft - bits).square().sum(1)
    (true,) = torch.autograd.grad(inverse_distance_weighting(squared, values), soft, retain_graph=True)
    released = released_gradient(squared, values)
    (wrong,) = torch.autograd.grad(released, soft)
    weighted, total = weighted.detach(), total.detach()
    torch.testing.assert_close(true, slope_w / total - weighted * slope_s / total**2)
    torch.testing.assert_close(wrong, slope_w / total + weighted * slope_s / total**2)
    torch.testing.assert_close(released, inverse_distance_weighting(squared, values))


def test_power_loss_runs_from_the_expectation_to_the_direction_of_the_logarithm():
    quality = torch.tensor([0.2, 0.9, 1.0], dtype=torch.float64)
    torch.testing.assert_close(power_loss(quality, 1.0), 1 - quality)
    torch.testing.assert_close(power_loss(quality, 1e-6) / 1e-6, -quality.log(), rtol=1e-4, atol=1e-6)
    assert torch.autograd.gradcheck(lambda p: power_loss(p, 0.7), (quality[:2].requires_grad_(),))
