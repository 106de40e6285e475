"""Top-k accuracy in closed form is what local interpolation makes of it."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.base import CallContext
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.linearized import Linearized

CALL = CallContext(0, 0)


def batch(classes=6):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (40,), generator=generator)
    scores = (3 * torch.randn(40, classes, generator=generator, dtype=torch.float64)).round() / 2  # with ties
    scores[0, targets[0]] = -300.0  # surely wrong
    return scores, targets


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("q", [0.5, 1.0])
def test_it_is_the_local_interpolation(k, q):
    metric, (scores, targets) = mg.as_metric(f"top_k_accuracy:k={k}"), batch()
    leaf = scores.requires_grad_()
    parts = Linearized(metric, q=q).parts(leaf, targets, call=CALL)
    expected = Interpolated(metric, softness=1.0, q=q)(leaf, targets, call=CALL)
    torch.testing.assert_close(parts.again(leaf)[0].detach(), expected.detach())
    torch.testing.assert_close(parts.shown, 1 - metric(leaf.detach(), targets))
    torch.testing.assert_close(parts.gradients[0], torch.autograd.grad(expected, leaf)[0])


def test_its_gradients_are_those_of_its_loss_and_of_cross_entropy():
    scores, targets = batch()
    weight = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = scores.requires_grad_()
    form = Linearized(mg.as_metric("top_k_accuracy:k=2"))
    parts = form.parts(leaf, targets, call=CALL, sample_weight=weight)
    (loss,) = parts.again(leaf)
    torch.testing.assert_close(parts.gradients[0], torch.autograd.grad(loss, leaf)[0])
    each = torch.nn.functional.cross_entropy(leaf, targets, reduction="none")
    (slope,) = torch.autograd.grad((each * weight).sum() / weight.sum(), leaf)
    torch.testing.assert_close(parts.cross_entropy, slope)


def test_as_many_classes_as_are_asked_for_are_refused():
    scores, targets = batch(3)
    with pytest.raises(mg.MetricgradError, match="top-3 of 3 classes is always right"):
        mg.UniLoss("top_k_accuracy:k=3")(scores.requires_grad_(), targets)


def test_the_value_is_the_distance_from_ideal():
    g = torch.Generator().manual_seed(0)
    scores, targets, weight = torch.randn(50, 6, generator=g), torch.randint(6, (50,), generator=g), torch.rand(50)
    metric = mg.as_metric("top_k_accuracy:k=2")
    for context in ({}, {"sample_weight": weight}, {"mask": weight < 0.5}):
        found = mg.UniLoss(metric)(scores.clone().requires_grad_(), targets, **context)
        assert float(found.detach()) == pytest.approx(1 - float(metric(scores, targets, **context)), abs=1e-6)
    right = 3.0 * torch.nn.functional.one_hot(targets, 6)
    assert float(mg.UniLoss(metric)(right.requires_grad_(), targets).detach()) == 0.0
