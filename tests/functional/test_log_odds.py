"""Log-odds of classes against their equation, and their gradient in closed form against autograd of it."""

import pytest
import torch

from metricgrad.functional.log_odds import log_odds_of_rows


def by_equation(scores):
    columns = torch.arange(scores.shape[-1])
    return torch.stack([scores[..., c] - scores[..., columns != c].logsumexp(-1) for c in columns], -1)


def draw(classes, scale):
    g = torch.Generator().manual_seed(classes)
    return (torch.randn(5, classes, generator=g, dtype=torch.float64) * scale).requires_grad_(), g


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_values_and_both_derivatives_are_those_of_the_equation(classes, scale):
    scores, g = draw(classes, scale)
    weights, direction = (torch.randn(5, classes, generator=g, dtype=torch.float64) for _ in range(2))
    of_each = []
    for odds in (log_odds_of_rows(scores), by_equation(scores)):
        (slope,) = torch.autograd.grad((odds * weights).sum(), scores, create_graph=True)
        of_each.append((odds, slope, *torch.autograd.grad((slope * direction).sum(), scores)))
    for found, expected in zip(*of_each, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_gradients_without_a_graph_are_those_with_one():
    scores, g = draw(4, 3.0)
    weights = torch.randn(5, 4, generator=g, dtype=torch.float64)
    plain, graph = (
        torch.autograd.grad((log_odds_of_rows(scores) * weights).sum(), scores, create_graph=create)[0]
        for create in (False, True)
    )
    assert graph.requires_grad
    assert torch.equal(plain, graph)


def test_single_precision_comes_back_with_odds_that_no_probability_holds():
    scores = torch.tensor([[300.0, 0.0, 1.0], [301.0, 0.0, 1.0], [2.0, 2.0, 2.0]], requires_grad=True)
    odds = log_odds_of_rows(scores)
    assert odds.dtype == torch.float32
    torch.testing.assert_close(odds, by_equation(scores.double()).float())
    (slope,) = torch.autograd.grad(odds.sum(), scores, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), scores)[0].isfinite().all()


def test_values_that_overflow_when_they_are_split_stay_as_they_are():
    scores = torch.tensor([[1e306, 0.0]], dtype=torch.float64)
    assert log_odds_of_rows(scores).tolist() == [[1e306, -1e306]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_gradients_may_be_asked_for_at_once(dtype):
    scores = draw(3, 2.0)[0].detach().to(dtype)
    each, at_once = (
        torch.autograd.functional.jacobian(log_odds_of_rows, scores, vectorize=vectorize) for vectorize in (False, True)
    )
    torch.testing.assert_close(at_once, each)
