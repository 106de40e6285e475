"""Mean IoU and Dice against loops over classes and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional import jaccard_index
from torchmetrics.functional.classification import multiclass_f1_score

import metricgrad as mg


def _pixels(classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (3, 50), generator=g)
    return torch.randn(3, 50, classes, generator=g) + torch.nn.functional.one_hot(targets, classes), targets


def _loop(predicted, targets, dice):
    found = []
    for c in np.union1d(predicted, targets):
        a, b = predicted == c, targets == c
        both = (a & b).sum()
        found.append(2 * both / (a.sum() + b.sum()) if dice else both / (a | b).sum())
    return np.mean(found)


@pytest.mark.parametrize("dice", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_the_loop_and_torchmetrics(dice, classes):
    scores, targets = _pixels(classes)
    metric = mg.as_metric("dice" if dice else "mean_iou")
    predicted = scores.argmax(-1)
    value = float(metric(scores, targets))
    assert value == pytest.approx(_loop(predicted.numpy(), targets.numpy(), dice))
    flat = predicted.flatten(), targets.flatten()
    theirs = (
        multiclass_f1_score(*flat, num_classes=classes, average="macro")
        if dice
        else jaccard_index(*flat, task="multiclass", num_classes=classes, average="macro")
    )
    assert value == pytest.approx(float(theirs))


def test_void_pixels_are_masked_and_absent_classes_left_out():
    scores, targets = _pixels()
    scores[..., 3] = -9.0
    kept = targets != 3
    expected = _loop(scores.argmax(-1)[kept].numpy(), targets[kept].numpy(), False)
    assert float(mg.as_metric("mean_iou")(scores, targets, mask=kept)) == pytest.approx(expected)
