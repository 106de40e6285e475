"""Once silently wrong: rows of weight 0, masks of images, and functions that are told which class is a yes."""

import functools

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

import metricgrad as mg

ROWS = 400


@pytest.fixture
def binary():
    g = torch.Generator().manual_seed(7)
    targets = (torch.rand(ROWS, generator=g) < 0.3).long()
    return torch.randn(ROWS, generator=g, dtype=torch.float64) + 1.5 * targets, targets


@pytest.mark.parametrize("score", [sk.average_precision_score, sk.brier_score_loss, sk.d2_brier_score])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("bound", [False, True])
def test_a_function_of_scikit_learn_gets_the_score_of_its_yes(binary, score, columns, bound):
    scores, targets = binary
    given = scores if columns == 1 else torch.stack([-scores / 2, scores / 2], 1)
    metric = mg.as_metric(functools.partial(score, pos_label=0)) if bound else mg.as_metric(score, pos_label=0)
    assert float(metric(given, targets)) == pytest.approx(score(1 - targets.numpy(), (-scores).sigmoid().numpy()))
    other = mg.as_metric(score, pos_label=2)
    assert float(other(scores, targets + 1)) == pytest.approx(score(targets.numpy(), scores.sigmoid().numpy()))


def test_average_precision_of_class_0_can_be_trained_on(binary):
    scores, targets = binary
    loss = mg.UniLoss(mg.as_metric(sk.average_precision_score, pos_label=0))
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets).backward()
    assert leaf.grad[targets == 0].mean() > 0 > leaf.grad[targets == 1].mean()  # down with the logit of class 1


@pytest.mark.parametrize("shape", [(6, 4, 5), (3, 1, 4, 5)])
@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("accuracy", lambda y, s: (y == (s > 0)).mean()),
        ("auroc", sk.roc_auc_score),
        ("macro_f1", lambda y, s: sk.f1_score(y, s > 0, average="macro")),
        (sk.accuracy_score, lambda y, s: (y == (s > 0)).mean()),
        (sk.roc_auc_score, sk.roc_auc_score),
    ],
)
def test_masks_of_images_are_one_list_of_pixels(shape, name, oracle):
    g = torch.Generator().manual_seed(3)
    scores = torch.randn(shape, generator=g)
    targets = (scores + torch.randn(shape, generator=g) > 0).long()
    found = mg.as_metric(name)(scores, targets)
    assert float(found) == pytest.approx(oracle(targets.flatten().numpy(), scores.flatten().numpy()), abs=1e-6)


@pytest.mark.parametrize("metric", ["average_precision", "auroc", "recall_at_precision:precision=0.8", "ndcg"])
@pytest.mark.parametrize("anchored", [False, True])
def test_rows_of_weight_0_are_as_good_as_not_there(binary, metric, anchored):
    scores, targets = binary
    weight = torch.ones(ROWS)
    weight[::2] = 0
    gradients = []
    for rows in (slice(None), weight > 0):
        leaf = scores[rows].clone().requires_grad_()
        mg.UniLoss(metric, anchored=anchored)(leaf, targets[rows], sample_weight=weight[rows]).backward()
        gradients.append(leaf.grad)
    whole, kept = gradients
    assert np.allclose(whole[weight == 0], 0)
    assert torch.allclose(whole[weight > 0], kept, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("metric", "context"),
    [("average_precision", "sample_weight"), ("auroc", "sample_weight"), ("ndcg", "sample_weight"), ("ndcg", "groups")],
)
def test_the_value_of_an_anchored_loss_is_the_distance_from_ideal(binary, metric, context):
    scores, targets = binary
    given = {context: torch.ones(ROWS) if context == "sample_weight" else torch.arange(ROWS) // 40}
    value = mg.UniLoss(metric)(scores, targets, **given)
    assert float(value) == pytest.approx(1 - float(mg.as_metric(metric)(scores, targets, **given)), abs=1e-9)


def test_a_metric_of_order_with_another_yes_is_delivered_as_labels(binary):
    scores, targets = binary
    inputs = scores.float()[:, None]
    metric = mg.as_metric("average_precision", pos_label=2)
    result = mg.fit(
        torch.nn.Linear(1, 1), (inputs, targets + 1), (inputs, targets + 1), metric=metric, epochs=1, progress=False
    )
    assert result.output == "labels"
    assert set(result.predict(inputs).tolist()) <= {0, 1}
    assert result.predict_proba(inputs).shape == (ROWS,)


@pytest.mark.parametrize("metric", ["mse", "mae", "r2", "spearman"])
def test_nan_under_a_mask_is_nobodys_business(metric):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(60, generator=g), torch.randn(60, generator=g)
    mask = torch.arange(60) % 7 > 0
    context = {"mask": mask}
    expected = mg.UniLoss(metric)(scores.clone().requires_grad_(), targets, **context)
    for part in (scores, targets):
        part[~mask] = torch.nan
    leaf = scores.requires_grad_()
    found = mg.UniLoss(metric)(leaf, targets, **context)
    found.backward()
    assert torch.equal(found.detach(), expected.detach())
    assert leaf.grad.isfinite().all()
    with pytest.raises(mg.MetricgradError, match="hold NaN in 9 of 60 rows"):
        mg.UniLoss(metric)(leaf, targets)


def test_bytes_hold_no_negative_number_that_could_be_ignored():
    targets = torch.tensor([156, 156, 0, 1])
    scores = torch.nn.functional.one_hot(torch.tensor([156, 3, 0, 0]), 200).float()
    metric = mg.as_metric("accuracy", ignore_index=-100)
    assert float(metric(scores, targets.byte())) == float(metric(scores, targets)) == 0.5
