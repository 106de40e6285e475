"""The Lovász loss: 1 - IoU at hard predictions, the paper's sum in float64, and a gradient."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.lovasz import Lovasz


def _by_sets(errors, truth):
    """Equation 8, one set at a time."""
    order = errors.argsort(descending=True)

    def delta(wrong):
        hit = sum(1 for i in range(len(truth)) if truth[i] and i not in wrong)
        union = sum(1 for i in range(len(truth)) if truth[i] or i in wrong)
        return 1 - hit / union if union else 0.0

    total, wrong = 0.0, set()
    for i in order.tolist():
        before = delta(wrong)
        wrong = wrong | {i}
        total += float(errors[i]) * (delta(wrong) - before)
    return total


def test_it_is_the_papers_sum():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(12, 3, generator=g, dtype=torch.float64), torch.randint(3, (12,), generator=g)
    p = scores.softmax(1)
    classes = targets.unique().tolist()
    expected = sum(_by_sets(((targets == c).double() - p[:, c]).abs(), targets == c) for c in classes) / len(classes)
    assert float(Lovasz()(scores, targets)) == pytest.approx(expected)
    binary, truth = scores[:, 0], targets == 0
    hinge = (1 - (2 * truth.double() - 1) * binary).relu()
    assert float(Lovasz()(binary, truth)) == pytest.approx(_by_sets(hinge, truth))


def test_at_hard_predictions_it_is_one_minus_the_iou():
    targets = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
    predicted = torch.tensor([0, 1, 1, 1, 2, 0, 2, 2])
    scores = 200.0 * torch.nn.functional.one_hot(predicted, 3)
    assert float(Lovasz()(scores, targets)) == pytest.approx(1 - float(mg.as_metric("mean_iou")(scores, targets)))


def test_gradient_and_empty_batches():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(9, 3, generator=g, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(3, (9,), generator=g)
    assert torch.autograd.gradcheck(lambda s: Lovasz()(s, targets), (scores,))
    empty = Lovasz()(scores[:0], targets[:0])
    empty.backward()
    assert float(empty) == 0
    alone = Lovasz()(scores[:, 0], torch.zeros(9))  # no positive: every prediction above -1 is an error
    assert torch.isfinite(alone)
