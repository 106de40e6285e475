"""Overlap metrics against plain loops and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index, multiclass_jaccard_index

import metricgrad as mg


def images(seed=0, classes=4):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, 5, 6, classes, generator=g), torch.randint(classes - 1, (3, 5, 6), generator=g)


def looped(scores, targets, *, first, dice):
    predicted, truth = scores.argmax(-1).numpy().ravel(), targets.numpy().ravel()
    values = []
    for c in range(first, scores.shape[-1]):
        p, t = predicted == c, truth == c
        both = (p & t).sum()
        if p.any() or t.any():
            values.append(2 * both / (p.sum() + t.sum()) if dice else both / (p | t).sum())
    return np.mean(values)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("name", ["mean_iou", "dice"])
def test_classes_against_a_loop(name, background):
    scores, targets = images()
    metric = mg.as_metric(f"{name}:background={background}")
    expected = looped(scores, targets, first=0 if background else 1, dice=name == "dice")
    assert float(metric(scores, targets)) == pytest.approx(expected, abs=1e-6)
    assert metric(scores.reshape(-1, 4), targets.reshape(-1)) == metric(scores, targets)


def test_mean_iou_is_torchmetrics_jaccard_index():
    scores, targets = images()
    targets[0] = -1
    found = mg.as_metric("mean_iou")(scores, targets, mask=targets >= 0)
    expected = multiclass_jaccard_index(scores.movedim(-1, 1), targets, 4, ignore_index=-1)
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_masks_are_one_list_of_pixels():
    g = torch.Generator().manual_seed(1)
    scores, targets = torch.randn(3, 5, 6, generator=g), torch.randint(2, (3, 5, 6), generator=g)
    labels = (scores > 0).long()
    assert float(mg.as_metric("dice")(scores, targets)) == pytest.approx(float(binary_f1_score(labels, targets)))
    one_class = mg.as_metric("mean_iou:background=False")(scores, targets)
    assert float(one_class) == pytest.approx(float(binary_jaccard_index(labels, targets)))
    other = binary_jaccard_index(1 - labels, 1 - targets)
    assert float(mg.as_metric("mean_iou")(scores, targets)) == pytest.approx(float((one_class + other) / 2))
    flat = mg.as_metric("mean_iou")(scores.reshape(-1), targets.reshape(-1))
    assert flat == mg.as_metric("mean_iou")(scores, targets)


@pytest.mark.parametrize(("name", "shape"), [("mean_iou", (3, 8, 8, 3)), ("dice", (3, 8, 8))])
def test_uniloss_trains_on_images(name, shape):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3 if len(shape) == 4 else 2, shape[:3], generator=g)
    scores = torch.randn(shape, generator=g).requires_grad_()
    loss, optimizer = mg.UniLoss(name), torch.optim.Adam([scores], 0.2)
    before = float(mg.as_metric(name)(scores.detach(), targets))
    for _ in range(30):
        optimizer.zero_grad()
        loss(scores, targets).backward()
        optimizer.step()
    assert before < 0.7
    assert float(mg.as_metric(name)(scores.detach(), targets)) > 0.95
