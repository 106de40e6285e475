"""Finite scores of any size: finite values of the right size, and gradients of the right sign."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from torch import Tensor

import metricgrad as mg
from metricgrad.functional import kendall, soft_rank, soft_rank_network, spearman
from metricgrad.functional.dominance_sums import dominance_sum
from metricgrad.functional.pair_sums import pair_sum

RANKINGS = ["auroc", "average_precision", "mrr", "map", "recall_at_k:k=5", "ndcg", "spearman", "kendall"]


def _batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    targets = (torch.rand(40, generator=g) < 0.3).long()
    return (torch.randn(40, generator=g) - 0.4 * targets).to(dtype), targets


def _run(metric: str, scores: Tensor, targets: Tensor, **options) -> tuple[Tensor, Tensor]:
    leaf = scores.detach().clone().requires_grad_()
    value = mg.UniLoss(metric, **options)(leaf, targets)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize(("power", "dtype"), [(27, torch.float32), (120, torch.float32), (990, torch.float64)])
@pytest.mark.parametrize("metric", [*RANKINGS, "f1"])
def test_scores_and_softness_scaled_alike_change_nothing(metric, power, dtype):
    scores, targets = _batch(dtype)
    value, gradient = _run(metric, scores, targets, softness=1.0)
    large, slopes = _run(metric, scores * 2.0**power, targets, softness=2.0**power)
    # the softness is held as a float32 logarithm
    torch.testing.assert_close(large, value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slopes.double() * 2.0**power, gradient.double(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
@pytest.mark.parametrize(
    ("size", "softness", "dtype"),
    [
        (1e20, "once", torch.float32),
        (1e38, 1.0, torch.float32),
        (1.0, 1e-40, torch.float32),
        (1e299, 1.0, torch.float64),
    ],
)
@pytest.mark.parametrize("metric", RANKINGS)
def test_values_are_no_better_than_the_metric_and_gradients_finite(metric, size, softness, dtype, interpolation):
    scores, targets = _batch(dtype)
    scores = scores.clamp(-3, 3)
    missing = 1 - float(mg.as_metric(metric)(scores * size, targets))
    assert missing == pytest.approx(1 - float(mg.as_metric(metric)(scores, targets)), abs=1e-6)
    value, gradient = _run(metric, scores * size, targets, softness=softness, interpolation=interpolation)
    assert math.isfinite(value)
    assert gradient.isfinite().all()
    if interpolation == "local":
        assert float(value) > 0.3 * missing > 0
        assert float(value) < 2.01
        assert gradient[targets == 1].mean() < 0 < gradient[targets == 0].mean()


def test_extremes_of_float32():
    scores = torch.tensor([3.4e38, -3.4e38, 1.0, 3e38, -1.0, 0.0], requires_grad=True)
    targets = torch.tensor([0, 1, 1, 0, 1, 0])
    for metric in RANKINGS[:3]:
        value = mg.UniLoss(metric, softness=1.0)(scores, targets)
        (gradient,) = torch.autograd.grad(value, scores)
        assert 0 < float(value) <= 1
        assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [1e8, 1e20, 1e37])
def test_metrics_of_large_scores_are_those_of_scikit_learn_and_scipy_on_their_ranks(size):
    scores, targets = _batch()
    ranks = scores.double().argsort().argsort().numpy()
    graded = torch.randint(4, (40,), generator=torch.Generator().manual_seed(2))
    for name, expected in (
        ("auroc", roc_auc_score(targets, ranks)),
        ("average_precision", average_precision_score(targets, ranks)),
    ):
        assert float(mg.as_metric(name)(scores * size, targets)) == pytest.approx(expected, abs=1e-6)
    for name, expected in (
        ("ndcg", ndcg_score(graded[None], ranks[None])),
        ("spearman", spearmanr(graded, ranks)[0]),
        ("kendall", kendalltau(graded, ranks)[0]),
    ):
        assert float(mg.as_metric(name)(scores * size, graded)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [1e12, 1e25, 1e38])
def test_squared_errors_beyond_float32_are_given_in_float64(size):
    scores, targets = _batch()
    scores, targets = scores.clamp(-3, 3) * size, targets.float()
    value, gradient = _run("mse", scores, targets)
    expected = (scores.double() - targets.double()).square().mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, ((scores / 20) - targets / 20))
    r2 = mg.as_metric("r2")(scores, targets).double()
    spread = (targets.double() - targets.double().mean()).square().mean()
    torch.testing.assert_close(r2, 1 - expected / spread, rtol=1e-6, atol=0)


def test_errors_beyond_float64_are_refused():
    scores, targets = _batch(torch.float64)
    with pytest.raises(mg.MetricgradError, match="beyond the range of float64"):
        mg.as_metric("mse")(scores * 1e200, targets.double())
    assert float(mg.as_metric("r2")(scores * 1e200, scores * 1e200)) == 1.0
    assert float(mg.as_metric("mae")(scores * 1e200, scores * 0)) == pytest.approx(float(scores.abs().mean()) * 1e200)


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e300, 1e-300])
def test_functions_of_ranks_do_not_depend_on_the_size(size):
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(30, generator=g).double(), torch.randn(30, generator=g).double()
    for fn in (soft_rank, soft_rank_network, lambda x: spearman(x, b, soft=1.0), lambda x: kendall(x, b, soft=0.3)):
        small, large = a.clone().requires_grad_(), (a * size).requires_grad_()
        torch.testing.assert_close(fn(large), fn(small))
        (expected,) = torch.autograd.grad((fn(small) * a).sum(), small)
        (found,) = torch.autograd.grad((fn(large) * a).sum(), large)
        torch.testing.assert_close(found * size, expected, rtol=1e-6, atol=1e-12)


def test_embeddings_of_any_size():
    g = torch.Generator().manual_seed(1)
    embeddings, classes = torch.randn(20, 4, generator=g), torch.arange(20) % 4
    value, _ = _run("map_at_r", embeddings, classes, softness=0.1)
    for size in (1e-30, 1e30, 1e37):
        found, gradient = _run("map_at_r", embeddings * size, classes, softness=0.1)
        torch.testing.assert_close(found, value)
        assert gradient.isfinite().all()


def test_pair_sums_keep_what_is_near_beside_what_is_far():
    g = torch.Generator().manual_seed(3)
    near = torch.randn(400, generator=g).double()
    x = torch.cat([near, torch.tensor([1e38, -1e38, 1e300, -1e300], dtype=torch.float64)])
    y = torch.cat([torch.randn(400, generator=g).double(), torch.tensor([1e38, -1e300], dtype=torch.float64)])
    expected = (x[:, None] - y[None]).sigmoid().sum(1)
    torch.testing.assert_close(pair_sum(x, y, engine="grid"), expected, rtol=1e-6, atol=1e-6)
    rank_x, rank_y = torch.randperm(len(x), generator=g)[None], torch.randperm(len(y), generator=g)[None]
    expected = ((x[:, None] - y[None]).sigmoid() * (rank_y[0][None] < rank_x[0][:, None])).sum(1)
    torch.testing.assert_close(dominance_sum(x, y, rank_x, rank_y)[0], expected, rtol=1e-6, atol=1e-6)


def test_exponential_gains_of_any_size():
    g = torch.Generator().manual_seed(0)
    scores, grades = torch.randn(12, generator=g), torch.arange(12) % 5
    plain = ndcg_score((2.0 ** grades.double() - 1)[None], scores[None])
    assert float(mg.as_metric("ndcg:exponential=True")(scores, grades)) == pytest.approx(plain, abs=1e-6)
    order = scores.argsort(descending=True)
    for size in (250, 5000):  # up to 2^20000: the best item's gain is all that counts
        grade = grades * size
        first = [place for place, item in enumerate(order.tolist()) if grades[item] == 4]
        best = sum(1 / math.log2(place + 2) for place in range(len(first)))
        expected = sum(1 / math.log2(place + 2) for place in first) / best
        assert float(mg.as_metric("ndcg:exponential=True")(scores, grade)) == pytest.approx(expected, abs=1e-6)
        value, gradient = _run("ndcg:exponential=True", scores, grade, softness=1.0)
        assert 0 < float(value) < 1
        assert gradient[grades == 4].mean() < 0 < gradient[grades == 0].mean()
    groups = torch.arange(12) // 6
    small, large = grades.clone(), torch.where(groups == 1, grades * 3000, grades)
    apart = [
        float(mg.as_metric("ndcg:exponential=True")(scores[groups == q], t[groups == q]))
        for q, t in ((0, small), (1, large))
    ]
    both = float(mg.as_metric("ndcg:exponential=True")(scores, large, groups=groups))
    assert both == pytest.approx(sum(apart) / 2, abs=1e-6)


def test_linear_gains_of_any_size_and_negative_ones():
    scores, grades = torch.randn(12, generator=torch.Generator().manual_seed(0)), torch.arange(12).double() % 5
    plain = mg.as_metric("ndcg")(scores, grades)
    torch.testing.assert_close(mg.as_metric("ndcg")(scores, grades * 1e300), plain)
    torch.testing.assert_close(mg.as_metric("ndcg")(scores, (grades * 2**50).long()), plain)
    with pytest.raises(mg.MetricgradError, match="expected 0 upwards"):
        mg.as_metric("ndcg")(scores, grades - 1)


def test_rounding_splits_no_ties_of_one_class_against_the_rest():
    """Rows of the same logits in another order have the same odds for the class that stays where it is."""
    g = torch.Generator().manual_seed(0)
    patterns = torch.randn(8, 6, generator=g)
    rows = torch.cat(
        [patterns[:, torch.cat([torch.tensor([0]), 1 + torch.randperm(5, generator=g)])] for _ in range(40)]
    )
    odds = mg.metrics.decoding.log_odds(rows, elementwise=False)
    assert len(odds[:, 0].unique()) == 8
    targets = torch.randint(6, (len(rows),), generator=g)
    pattern = torch.arange(len(rows)) % 8  # an exact stand-in for the odds of class 0
    strength = odds[:8, 0].argsort().argsort()[pattern]
    for name, oracle in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        expected = oracle(targets == 0, strength)
        one = torch.stack([-odds[:, 0], odds[:, 0]], 1).float()
        assert float(mg.as_metric(name)(odds[:, 0].float(), (targets == 0).long())) == pytest.approx(expected, abs=1e-6)
        assert float(mg.as_metric(name)(one, (targets == 0).long())) == pytest.approx(
            (expected + oracle(targets != 0, -strength)) / 2, abs=1e-6
        )
