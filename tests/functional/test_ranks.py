"""Soft ranks: the projection they are defined by, what they leave alone, and gradients of gradients."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata
from torch.autograd import gradcheck, gradgradcheck

import metricgrad as mg
from metricgrad.functional import hard_rank, soft_rank
from metricgrad.functional.isotonic import log_ratio_starts, mean_starts

BOTH = pytest.mark.parametrize("regularisation", ["quadratic", "entropic"])


def _scores(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _fit(starts, upper, lower, length):
    """Each entry its block's ratio of sums."""
    ratio = np.add.reduceat(upper, starts) / np.add.reduceat(lower, starts)
    return ratio.repeat(np.diff(starts, append=len(upper))).reshape(-1, length)


def _saw(n, period, fall):
    place = np.arange(n, dtype=float)
    return place % period - fall * (place // period)


HARD_CASES = {
    "noise": lambda n, g: g.normal(size=n),
    "walk": lambda n, g: g.normal(size=n).cumsum(),
    "falling": lambda n, g: -np.arange(n, dtype=float),
    "one drop": lambda n, g: np.r_[np.arange(n - 1) * 0.01, -1e6],
    "two rises": lambda n, g: np.arange(n, dtype=float) % (n // 2),
    "many long rises": lambda n, g: _saw(n, 70, 0.5),
    "rising teeth": lambda n, g: _saw(n, 64, -32.0),
    "waves": lambda n, g: 100 * np.sin(np.arange(n) / n * 300) + 0.01 * np.arange(n),
    "ties": lambda n, g: g.integers(3, size=n).astype(float),
}


@pytest.mark.parametrize("case", HARD_CASES)
@pytest.mark.parametrize("n", [1, 2, 7, 300, 4096])
def test_blocks_are_those_of_isotonic_regression(case, n):
    generator = np.random.default_rng(n)
    rows = [HARD_CASES[case](max(n, 4), generator)[:n] + shift for shift in (0.0, -5.0)]
    values = np.concatenate(rows)
    expected = np.stack([isotonic_regression(row).x for row in rows])
    found = _fit(mean_starts(values, n), values, np.ones(2 * n), n)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(values).max())


@pytest.mark.parametrize("case", HARD_CASES)
def test_log_blocks_are_those_of_the_exponentials(case):
    n, generator = 500, np.random.default_rng(0)
    values = HARD_CASES[case](n, generator)
    values, weights = 20 * values / np.abs(values).max(), generator.uniform(0.5, 2, n)
    expected = isotonic_regression(np.exp(values) / weights, weights=weights).x
    found = _fit(log_ratio_starts(values, weights, n), np.exp(values), weights, n)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
def test_quadratic_ranks_solve_the_projection(strength):
    x = _scores(64)
    z = math.sqrt((64**2 - 1) / 12) * (x - x.mean()) / x.std(correction=0) / strength
    order = z.argsort()
    expected = torch.empty_like(z)
    expected[order] = z[order] - torch.as_tensor(isotonic_regression((z[order] - torch.arange(1, 65)).numpy()).x)
    torch.testing.assert_close(soft_rank(x, strength), expected)


def test_entropic_ranks_solve_the_projection():
    """No point of the permutahedron near them has a smaller divergence: moving weight between any two raises it."""
    x = _scores(6)
    ranks = soft_rank(x, 1.0, "entropic")
    places = torch.arange(1.0, 7, dtype=torch.float64)
    z = places.log().std(correction=0) * (x - x.mean()) / x.std(correction=0)

    def divergence(r):
        return float((r * (r.log() - z) - r).sum())

    def inside(r):
        return bool((r.sort(descending=True).values.cumsum(0) <= places.flip(0).cumsum(0) + 1e-12).all())

    tried = 0
    for i in range(6):
        for j in range(6):
            moved = ranks.clone()
            moved[i] += 1e-4
            moved[j] -= 1e-4
            if i != j and inside(moved):
                tried += 1
                assert divergence(moved) > divergence(ranks)
    assert inside(ranks)
    assert tried > 5


def test_ranks_known_by_hand():
    # four scores spread like ranks: at strength 2, z = -0.75, -0.25, 0.25, 0.75 is one block around the mean rank
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(soft_rank(x, 2.0), torch.tensor([1.75, 2.25, 2.75, 3.25]))
    torch.testing.assert_close(soft_rank(x, 0.99), x)


@BOTH
@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0, 3.0, 20.0])
def test_gradients_of_gradients(regularisation, strength):
    x = _scores(2, 9, seed=3).requires_grad_()
    assert gradcheck(lambda v: soft_rank(v, strength, regularisation), (x,))
    assert gradgradcheck(lambda v: soft_rank(v, strength, regularisation), (x,))


@BOTH
def test_the_gradient_is_the_one_autograd_finds_when_asked_for_more(regularisation):
    x, weights = _scores(3, 40).requires_grad_(), _scores(3, 40, seed=1)
    value = (soft_rank(x, 2.0, regularisation) * weights).sum()
    (plain,) = torch.autograd.grad(value, x, retain_graph=True)
    (with_graph,) = torch.autograd.grad(value, x, create_graph=True)
    torch.testing.assert_close(plain, with_graph)
    assert float(plain.norm()) > 0.1


@BOTH
def test_scale_shift_and_order_do_not_matter(regularisation):
    x = _scores(50)
    ranks = soft_rank(x, 1.0, regularisation)
    torch.testing.assert_close(soft_rank(1e4 * x - 3e3, 1.0, regularisation), ranks)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soft_rank(x[order], 1.0, regularisation), ranks[order])
    torch.testing.assert_close(ranks.sum().item(), 50 * 51 / 2)
    assert bool((ranks[x.argsort()].diff() >= -1e-12).all())


@BOTH
def test_weak_is_hard_with_mean_ranks_for_ties_and_strong_is_the_mean(regularisation):
    x = torch.tensor([3.0, 1.0, 1.0, 90.0, 3.0, 3.0])
    for strength in (1e-2, 1e-9, 1e-300):
        torch.testing.assert_close(soft_rank(x, strength, regularisation), hard_rank(x).float())
    torch.testing.assert_close(soft_rank(x, 1e6, regularisation), torch.full((6,), 3.5), atol=1e-4, rtol=0)


@BOTH
def test_equal_scores_have_exactly_equal_ranks(regularisation):
    x = _scores(200).round(decimals=1)
    for strength in (1e-12, 0.1, 1.0, 10.0):
        ranks = soft_rank(x, strength, regularisation)
        for value in x.unique():
            assert len(ranks[x == value].unique()) == 1


@BOTH
def test_a_constant_row_has_the_mean_rank_and_no_gradient(regularisation):
    x = torch.stack([torch.full((5,), 0.1), torch.arange(5.0) ** 2]).requires_grad_()
    ranks = soft_rank(x, 2.0, regularisation)
    assert ranks[0].tolist() == [3.0] * 5
    (slope,) = torch.autograd.grad(ranks.square().sum(), x, create_graph=True)
    assert slope[0].tolist() == [0.0] * 5
    assert bool(slope[1].abs().sum() > 0)
    (curvature,) = torch.autograd.grad(slope.square().sum(), x)
    assert bool(curvature.isfinite().all())


def test_one_score_and_none():
    assert soft_rank(torch.tensor([7.0])).tolist() == [1.0]
    assert soft_rank(torch.empty(3, 0)).shape == (3, 0)
    assert hard_rank(torch.empty(0)).shape == (0,)


@BOTH
def test_rows_of_a_batch_are_ranked_each_for_itself(regularisation):
    x = _scores(2, 3, 100)
    found = soft_rank(x, 1.0, regularisation)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(found[i, j], soft_rank(x[i, j], 1.0, regularisation))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3), (torch.float16, 0.05)])
def test_dtypes(dtype, tolerance):
    x = _scores(64).to(dtype).requires_grad_()
    ranks = soft_rank(x)
    assert ranks.dtype == dtype
    torch.testing.assert_close(ranks.double(), soft_rank(x.detach().double()), atol=tolerance, rtol=0)
    ranks.square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert bool(x.grad.isfinite().all())


def _peak(n):
    x = _scores(n).requires_grad_()
    tracemalloc.start()
    soft_rank(x).square().sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_linear():
    """Of NumPy, which does all but the last step: at most 16 numbers for each score."""
    _peak(64)
    assert _peak(2**16) < 2**16 * 16 * 8


def test_hard_ranks_are_scipys():
    x = torch.randint(5, (3, 40), generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(hard_rank(x).numpy(), np.stack([rankdata(row) for row in x.numpy()]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.arange(3),), "dtype torch.int64"),
        ((torch.tensor(1.0),), "single number"),
        ((torch.rand(3), 0.0), "strength is 0.0"),
        ((torch.rand(3), math.nan), "strength is nan"),
        ((torch.rand(3), 1.0, "l2"), "regularisation is 'l2'"),
        ((torch.tensor([1.0, math.nan]),), "not finite"),
        ((torch.tensor([1.0, math.inf]),), "not finite"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(mg.MetricgradError, match=message):
        soft_rank(*arguments)


def test_the_public_names_are_functions_whatever_was_imported_before():
    for name in mg.functional.__all__:
        assert callable(getattr(mg.functional, name))
