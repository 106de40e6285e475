"""Kendall's tau-b is a sum over pairs, and its loss that of soft ones."""

import itertools

import pytest
import scipy.stats
import torch
import torchmetrics

import metricgrad as mg
from metricgrad.losses.interpolated.lists import pairs
from metricgrad.losses.interpolated.lists.list_losses import many_lists
from metricgrad.losses.interpolated.lists.ranked_lists import ranked_lists
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.from_structure import for_batch

METRIC = mg.as_metric("kendall")


def draw(seed, *shape, ties=False):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randn(shape, generator=g, dtype=torch.float64)
    scores = targets + torch.randn(shape, generator=g, dtype=torch.float64)
    return (scores.round(decimals=1), targets.round(decimals=0)) if ties else (scores, targets)


def found(scores, targets, q=None):
    batch = Batch(scores, targets, {})
    lists = ranked_lists(batch, for_batch(METRIC.structure, batch, METRIC), METRIC.fast_path)
    return many_lists(METRIC.fast_path, {}, batch, lists, q=q)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("q", [None, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(20,), (15, 3)])
def test_the_value_is_the_metrics_and_the_gradient_that_of_the_loss(shape, q, ties):
    scores, targets = draw(0, *shape, ties=ties)
    ours, leaf = found(scores, targets, q), scores.clone().requires_grad_()
    torch.testing.assert_close(ours.gradient, torch.autograd.grad(ours.loss(leaf), leaf)[0])
    assert float(ours.now) == pytest.approx(float(METRIC(scores, targets)), abs=1e-6)
    assert float(ours.ideal) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(20,), (15, 3)])
def test_where_pairs_are_far_apart_the_loss_is_the_metrics_distance_from_ideal(shape):
    scores, targets = draw(1, *shape)
    away = 1 - float(METRIC(scores, targets))
    assert float(found(1e4 * scores, targets).loss(1e4 * scores)) == pytest.approx(away, abs=1e-3)


def test_each_exchange_of_neighbours_is_worth_what_the_metric_says():
    """Of scores far apart by ones that exchange places."""
    scores, targets = draw(2, 12, ties=True)
    scores = 1e3 * draw(2, 12)[0].argsort().argsort().double()
    loss, now = found(scores, targets).loss, float(METRIC(scores, targets))
    order = scores.argsort()
    for first, second in itertools.pairwise(order):
        moved = scores.clone()
        moved[first], moved[second] = scores[second], scores[first]
        assert float(loss(scores) - loss(moved)) == pytest.approx(float(METRIC(moved, targets)) - now, abs=1e-6)


@pytest.mark.parametrize("q", [None, 0.5])
def test_long_lists_are_summed_in_near_linear_time(q, monkeypatch):
    scores, targets = draw(3, 15, 3, ties=True)
    whole = found(scores, targets, q)
    monkeypatch.setattr(pairs, "_LONG", 10)
    parts = found(scores, targets, q)
    torch.testing.assert_close(parts.gradient, whole.gradient, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close((parts.now, parts.loss(scores)), (whole.now, whole.loss(scores)))


@pytest.mark.parametrize("foreign", [scipy.stats.kendalltau, torchmetrics.KendallRankCorrCoef()])
def test_a_foreign_one_is_trained_on_by_its_twin(foreign, recwarn):
    theirs, ours = mg.UniLoss(mg.as_metric(foreign)), mg.UniLoss("kendall")
    for seed in range(4):
        (scores, targets), slopes = draw(seed, 24, ties=True), []
        for loss in (theirs, ours):
            leaf = scores.clone().requires_grad_()
            loss(leaf, targets).backward()
            slopes.append(leaf.grad)
        torch.testing.assert_close(*slopes)
    assert not [w for w in recwarn if "is called itself" in str(w.message)]


def test_other_variants_have_no_twin():
    assert mg.as_metric(torchmetrics.KendallRankCorrCoef(variant="c")).twin is None


def test_the_metric_alone_is_the_same_loss():
    scores, targets = draw(4, 15, 2)
    leaf = scores.requires_grad_()
    value = mg.UniLoss("kendall", anchored=False, softness=1.0)(leaf, targets)
    value.backward()
    torch.testing.assert_close(leaf.grad, found(scores.detach(), targets, 0.5).gradient)
    assert 0 < float(value.detach()) <= 2
