"""Rankings of graded targets train on the metric alone, whatever stands beside the scores or under a mask."""

import copy

import pytest
import scipy.stats
import torch
from torch import nn

import metricgrad as mg

pytestmark = pytest.mark.filterwarnings("ignore")
RANKINGS = ["ndcg", "map", "mrr", "precision_at_k:k=2", "recall_at_k:k=2", "spearman", "kendall"]


def _gradient(loss, scores, targets, **context):
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets, **context).backward()
    return leaf.grad.flatten()


@pytest.mark.parametrize("metric", RANKINGS)
def test_a_last_axis_of_one_changes_nothing(metric):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(20, generator=g), (torch.randint(7, (20,), generator=g) - 3).clamp(min=0)
    context = {} if metric in ("spearman", "kendall") else {"groups": torch.arange(20) // 5}
    found = _gradient(mg.UniLoss(metric), scores[:, None], targets, **context)
    torch.testing.assert_close(found, _gradient(mg.UniLoss(metric), scores, targets, **context))
    assert found.any()


@pytest.mark.parametrize("filler", [-100, 7])
@pytest.mark.parametrize("metric", [*RANKINGS[:5], "average_precision", "auroc"])
def test_what_is_masked_out_changes_nothing(metric, filler):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(24, generator=g), (torch.rand(24, generator=g) < 0.4).long()
    mask = torch.rand(24, generator=g) < 0.7
    context = (
        {"mask": mask} if metric in ("average_precision", "auroc") else {"mask": mask, "groups": torch.arange(24) // 6}
    )
    found = _gradient(mg.UniLoss(metric), scores, torch.where(mask, targets, filler), **context)
    torch.testing.assert_close(found, _gradient(mg.UniLoss(metric), scores, targets, **context))
    assert found.any()


def test_columns_with_ignored_entries_train_as_under_a_mask():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(24, 3, generator=g), (torch.rand(24, 3, generator=g) < 0.4).long()
    mask = torch.rand(24, 3, generator=g) < 0.8
    ignoring = mg.UniLoss(mg.as_metric("average_precision", ignore_index=-100))
    found = _gradient(ignoring, scores, torch.where(mask, targets, -100))
    torch.testing.assert_close(found, _gradient(mg.UniLoss("average_precision"), scores, targets, mask=mask))


def test_a_batch_that_lacks_the_higher_grades_is_trained_on_as_those_before():
    scores = torch.tensor([3.0, 1.0, 2.0, -1.0])
    loss = mg.UniLoss("ndcg")
    graded = _gradient(loss, scores, torch.tensor([0, 1, 0, 2]))
    again = mg.UniLoss("ndcg")
    again.load_state_dict(copy.deepcopy(loss.state_dict()))
    for one in (loss, again):
        found = _gradient(one, scores, torch.tensor([0, 1, 0, 1]))
        assert found.norm() < 3 * graded.norm()  # a standard loss has ten times as much
    loss.form.forget()  # another training
    assert _gradient(loss, scores, torch.tensor([0, 1, 0, 1])).norm() > 5 * graded.norm()


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("metric", ["auroc", "average_precision", "recall_at_precision", "map", "mrr", "ndcg"])
def test_a_loss_refuses_the_targets_that_its_metric_refuses(metric, anchored):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(24, generator=g), (torch.rand(24, generator=g) < 0.4).long()
    for wrong in (2 * targets - 1, torch.randn(24, generator=g)):
        with pytest.raises(mg.MetricgradError) as told:
            mg.as_metric(metric)(scores, wrong)
        with pytest.raises(mg.MetricgradError) as refused:
            mg.UniLoss(metric, anchored=anchored)(scores, wrong)
        assert str(refused.value) == str(told.value)


def test_a_callable_of_ones_own_that_ranks_real_targets_rides_on_the_squared_error():
    """Sixteen calls a step say too little to train by alone: the correlation ended at .4."""

    def own(targets, scores):
        return scipy.stats.spearmanr(targets, scores).statistic

    torch.manual_seed(3)
    inputs = torch.randn(512, 10)
    targets, model = inputs @ torch.randn(10) + 0.3 * torch.randn(512), nn.Linear(10, 1)
    metric = mg.as_metric(own, higher_is_better=True, order="targets_first", reads="scores")
    loss, optimizer = mg.UniLoss(metric), torch.optim.Adam(model.parameters(), lr=0.02)
    loss.attach(model, optimizer, total_steps=100)
    for _ in range(100):
        rows = torch.randint(512, (64,))
        optimizer.zero_grad()
        loss(model(inputs[rows])[:, 0], targets[rows]).backward()
        optimizer.step()
    assert own(targets, model(inputs)[:, 0].detach()) > 0.8
