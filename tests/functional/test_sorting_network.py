"""The relaxed sorting network: doubly stochastic, monotone, and hard where it is steep."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import metricgrad as mg
from metricgrad.functional import hard_rank, relaxed_permutation, soft_rank_network


def _scores(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_rows_and_columns_sum_to_one(n):
    matrix = relaxed_permutation(_scores(3, n), steepness=2.0)
    assert bool((matrix >= 0).all())
    torch.testing.assert_close(matrix.sum(-1), torch.ones(3, n, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(-2), torch.ones(3, n, dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_ranks_are_the_places_the_matrix_expects(n):
    x = _scores(3, n)
    places = torch.arange(1, n + 1, dtype=torch.float64)
    torch.testing.assert_close(soft_rank_network(x, 3.0), places @ relaxed_permutation(x, 3.0))


@pytest.mark.parametrize("n", [2, 3, 16, 17])
def test_steep_is_hard_for_every_order(n):
    x = torch.stack([torch.randperm(n, generator=torch.Generator().manual_seed(i)) for i in range(20)]).double()
    x = torch.cat([x, x[:1].sort(descending=True).values])
    torch.testing.assert_close(soft_rank_network(x, 1e9), hard_rank(x))


def test_two_scores_by_hand():
    # standardised they are -1 and 1: the first keeps its place with the weight 1/2 + atan(2 * 0.5) / pi = 3/4
    torch.testing.assert_close(soft_rank_network(torch.tensor([5.0, 9.0]), 0.5), torch.tensor([1.25, 1.75]))


def test_every_score_has_a_gradient_however_far_it_is():
    x = torch.tensor([-30.0, 0.0, 0.1, 50.0], requires_grad=True)
    (slope,) = torch.autograd.grad(soft_rank_network(x)[0], x)
    assert bool((slope != 0).all())


def test_ranks_keep_the_order_of_the_scores():
    x = _scores(6)
    assert bool((soft_rank_network(x, 4.0)[x.argsort()].diff() > 0).all())


def test_gradients_of_gradients():
    x = _scores(2, 6).requires_grad_()
    assert gradcheck(soft_rank_network, (x,))
    assert gradgradcheck(soft_rank_network, (x,))
    assert gradcheck(relaxed_permutation, (x,))


def test_the_scale_does_not_matter_and_a_constant_row_has_no_gradient():
    x = _scores(8)
    torch.testing.assert_close(soft_rank_network(50 * x + 7), soft_rank_network(x))
    constant = torch.full((3,), 0.1, requires_grad=True)
    (slope,) = torch.autograd.grad(soft_rank_network(constant).square().sum(), constant)
    assert slope.tolist() == [0.0] * 3


def test_bad_input_is_refused():
    for steepness in (0.0, math.inf):
        with pytest.raises(mg.MetricgradError, match="expected a positive number"):
            soft_rank_network(torch.rand(3), steepness)
    with pytest.raises(mg.MetricgradError, match="floating point"):
        relaxed_permutation(torch.arange(3))
