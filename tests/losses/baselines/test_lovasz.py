"""Lovász losses against the definition, and against the Jaccard index they extend."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.baselines.lovasz import Lovasz, lovasz_jaccard


def by_definition(errors, truth):
    """Sum over sorted errors of the Jaccard loss's increment, with sets of indices."""
    positives = {i for i, y in enumerate(truth.tolist()) if y > 0}

    def loss(wrong):
        predicted = positives ^ wrong
        union = positives | predicted
        return 1 - len(positives & predicted) / len(union) if union else 0.0

    total, wrong, before = 0.0, set(), 0.0
    for i in sorted(range(len(errors)), key=lambda i: -float(errors[i])):
        wrong = wrong | {i}
        total, before = total + float(errors[i]) * (loss(wrong) - before), loss(wrong)
    return total


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_extension_is_its_definition_and_the_jaccard_loss_at_the_corners(rate):
    g = torch.Generator().manual_seed(0)
    errors = torch.rand(14, generator=g, dtype=torch.float64)
    truth = (torch.rand(14, generator=g) < rate).double()
    assert float(lovasz_jaccard(errors, truth)) == pytest.approx(by_definition(errors, truth))
    wrong = (torch.rand(14, generator=g) < 0.4).double()
    predicted = (truth - wrong).abs()
    expected = 1 - float((truth * predicted).sum() / torch.maximum(truth, predicted).sum())
    assert float(lovasz_jaccard(wrong, truth)) == pytest.approx(expected)


def test_hinge_softmax_and_columns():
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(20, 3, generator=g, dtype=torch.float64)
    classes = torch.randint(2, (20,), generator=g)
    p, y = scores.softmax(1), nn.functional.one_hot(classes, 3).double()
    expected = sum(by_definition((y - p).abs()[:, c], y[:, c]) for c in range(2)) / 2  # class 2 is no target
    assert float(Lovasz()(scores, classes)) == pytest.approx(expected)
    hinge = by_definition((1 - scores[:, 0] * (2 * y[:, 0] - 1)).clamp(min=0), y[:, 0])
    assert float(Lovasz()(scores[:, 0], classes == 0)) == pytest.approx(hinge)
    assert float(Lovasz()(scores[:, :1].expand(-1, 2), y[:, [0, 2]])) == pytest.approx(hinge)
    images = scores[:18].reshape(2, 3, 3, 3), classes[:18].reshape(2, 3, 3)
    of_images = Lovasz()
    of_images.class_dim = -1
    assert of_images(*images) == Lovasz()(scores[:18], classes[:18])


@pytest.mark.parametrize("shape", [(9,), (9, 3)])
def test_gradients(shape):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    targets = torch.arange(9) % (3 if len(shape) > 1 else 2)
    assert torch.autograd.gradcheck(lambda s: Lovasz()(s, targets), (scores,))


def test_it_trains_the_mean_iou():
    g = torch.Generator().manual_seed(3)
    scores, targets = torch.randn(200, 3, generator=g).requires_grad_(), torch.randint(3, (200,), generator=g)
    optimizer = torch.optim.Adam([scores], 0.2)
    for _ in range(40):
        optimizer.zero_grad()
        Lovasz()(scores, targets).backward()
        optimizer.step()
    assert float(mg.as_metric("mean_iou")(scores.detach(), targets)) > 0.95
