"""Rank correlations: SciPy's when hard, and a gradient towards the right order when soft."""

import math

import pytest
import torch
from scipy.stats import kendalltau, spearmanr
from torch.autograd import gradcheck, gradgradcheck

import metricgrad as mg
from metricgrad.functional import kendall, spearman

FUNCTIONS = pytest.mark.parametrize(("ours", "theirs"), [(spearman, spearmanr), (kendall, kendalltau)])
BOTH = pytest.mark.parametrize("ours", [spearman, kendall])


def _pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return a, torch.randint(5, shape, generator=generator)


@FUNCTIONS
@pytest.mark.parametrize("n", [3, 10, 57, 200])
@pytest.mark.parametrize("kinds", [3, 10_000])
def test_hard_is_scipys_with_and_without_ties(ours, theirs, n, kinds):
    a, b = torch.randint(kinds, (2, 4, n), generator=torch.Generator().manual_seed(n))
    b[3] = a[3]
    found = ours(a, b)
    for row in range(4):
        expected = theirs(a[row], b[row]).statistic
        assert float(found[row]) == pytest.approx(expected, abs=1e-12)


@BOTH
def test_hard_is_not_defined_where_a_side_is_constant(ours):
    a = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    assert ours(a, torch.tensor([3, 1, 2])).isnan().tolist() == [True, False]
    assert ours(torch.tensor([1.0]), torch.tensor([1.0])).isnan()


@BOTH
def test_soft_becomes_hard(ours):
    a, b = _pair(6, 40)
    a[0] = a[0].round()  # ties
    torch.testing.assert_close(ours(a, b, soft=1e-9), ours(a, b))


def test_soft_kendall_is_the_sum_over_pairs():
    a, b = _pair(70)
    z = a / a.std(correction=0)
    order = (b[:, None] - b[None, :]).sign()
    pairs = (order * ((z[:, None] - z[None, :]) / (2 * 0.3)).tanh()).sum() / 2
    free_b = order.abs().sum() / 2
    torch.testing.assert_close(kendall(a, b, soft=0.3), pairs / (free_b * 70 * 69 / 2).sqrt())


def test_soft_spearman_by_hand():
    # z = -0.75, -0.25, 0.25, 0.75 at strength 2: ranks linear in a, so this is Pearson's correlation with b's ranks
    value = spearman(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2, 1, 3, 4]), soft=2.0)
    assert float(value) == pytest.approx(0.8)


@BOTH
@pytest.mark.parametrize("soft", [0.3, 1.0, 5.0])
def test_gradients_of_gradients(ours, soft):
    a, b = _pair(2, 7)
    a.requires_grad_()
    assert gradcheck(lambda v: ours(v, b, soft=soft), (a,))
    assert gradgradcheck(lambda v: ours(v, b, soft=soft), (a,))


@BOTH
def test_soft_does_not_read_the_scale(ours):
    a, b = _pair(3, 30)
    torch.testing.assert_close(ours(100 * a - 3, b, soft=1.0), ours(a, b, soft=1.0))


@BOTH
def test_soft_is_zero_without_a_gradient_where_a_side_is_constant(ours):
    a = torch.tensor([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0], [3.0, 1.0, 2.0]], requires_grad=True)
    b = torch.tensor([[1, 2, 3], [5, 5, 5], [2, 1, 3]])
    values = ours(a, b, soft=2.0)
    assert values[:2].tolist() == [0.0, 0.0]
    values.sum().backward()
    assert a.grad is not None
    assert a.grad[:2].abs().sum() == 0
    assert a.grad[2].abs().sum() > 0


@BOTH
def test_following_the_gradient_sorts(ours):
    a, b = _pair(30)
    b = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    a.requires_grad_()
    optimizer = torch.optim.Adam([a], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        (-ours(a, b, soft=2.0)).backward()
        optimizer.step()
    assert float(ours(a.detach(), b)) > 0.95


@BOTH
def test_bad_input_is_refused(ours):
    with pytest.raises(mg.MetricgradError, match="one last axis in common"):
        ours(torch.rand(3), torch.rand(4))
    for soft in (0.0, math.inf):
        with pytest.raises(mg.MetricgradError, match="expected a positive number"):
            ours(torch.rand(3), torch.rand(3), soft=soft)
    with pytest.raises(mg.MetricgradError, match="floating point"):
        ours(torch.arange(3), torch.rand(3), soft=1.0)


@pytest.mark.parametrize("correlation", [mg.functional.spearman, mg.functional.kendall])
def test_of_what_is_missing_nothing_is_known(correlation):
    a, b = torch.randn(2, 10), torch.randn(10)
    a[0, 3] = torch.nan
    assert correlation(a, b).isnan().tolist() == [True, False]
    assert correlation(b, a).isnan().tolist() == [True, False]
