"""Where scores that are not finite are let through, NaN goes on to the gradient alone, and infinity is an order."""

from __future__ import annotations

import math

import pytest
import torch

import metricgrad as mg

ROWS = torch.arange(10) % 3
YES = (ROWS == 0).long()
TARGETS = {
    "average_precision": YES,
    "f1": YES,
    "mcc": YES,
    "accuracy": ROWS,
    "auroc": ROWS,
    "ndcg": (torch.arange(30) % 4).reshape(10, 3),
}


def _unchecked(metric, anchored=True):
    loss = mg.UniLoss(metric, anchored=anchored, check_finite=False)
    loss.check_finite = False  # nor do the first calls look
    return loss


def _scores(targets, seed):
    shape = (10,) if targets is YES else (10, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _gradient(loss, scores, targets):
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets).backward()
    return leaf.grad


@pytest.mark.parametrize("metric", TARGETS)
def test_nan_is_not_remembered(metric):
    targets = TARGETS[metric]
    seen, other = _unchecked(metric), _unchecked(metric)
    for loss in (seen, other):
        _gradient(loss, _scores(targets, 0), targets)
    wrong = _scores(targets, 1)
    wrong.view(-1)[4] = math.nan
    assert _gradient(seen, wrong, targets).isnan().any()
    other.steps += 1
    now = _scores(targets, 2)
    gradient = _gradient(seen, now, targets)
    assert gradient.isfinite().all()
    assert torch.allclose(gradient, _gradient(other, now, targets))


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["average_precision", "map", "mrr", "ndcg", "f1"])
@pytest.mark.parametrize("shape", [(12,), (6, 4)])
def test_infinite_scores_stand_above_or_below_all_others(metric, shape, infinite, anchored):
    targets = (torch.arange(math.prod(shape)) % 3 < 1).long().reshape(shape)
    targets[0] = 1
    for kind in (0, 1):
        scores = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        which = (targets == kind).reshape(-1).nonzero()[::3, 0]
        scores.view(-1)[which] = infinite
        leaf = scores.clone().requires_grad_()
        value = _unchecked(metric, anchored)(leaf, targets)
        value.backward()
        assert leaf.grad.isfinite().all()
        assert value.isfinite()
        if anchored:
            assert float(value) == pytest.approx(1 - float(mg.as_metric(metric)(scores, targets)), abs=1e-6)


@pytest.mark.parametrize("metric", ["ndcg", "spearman"])
def test_graded_targets_have_infinite_scores_too(metric):
    targets = (torch.arange(30) % 4).reshape(10, 3)
    scores = _scores(targets, 0)
    scores[2, 1] = math.inf
    leaf = scores.clone().requires_grad_()
    value = _unchecked(metric)(leaf, targets)
    value.backward()
    assert leaf.grad[scores.isfinite()].isfinite().all()  # the standard loss that it rides on is infinite there
    assert float(value) == pytest.approx(1 - float(mg.as_metric(metric)(scores, targets)), abs=1e-6)


@pytest.mark.filterwarnings("ignore:metric")
@pytest.mark.parametrize("metric", ["mse", "mae", "brier", "log_loss"])
def test_a_smooth_metric_of_nan_has_a_gradient_that_loss_scaling_sees(metric):
    loss = mg.UniLoss(metric, check_finite=False)
    loss.check_finite = False
    scores = torch.tensor([1.0, math.nan, 0.3], requires_grad=True)
    value = loss(scores, torch.tensor([1.0, 0.0, 1.0]))
    value.backward()
    assert value.isnan()
    assert scores.grad[1].isnan()
