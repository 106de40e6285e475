"""Means over groups are those of the groups one by one."""

import pytest
import torch

import metricgrad as mg

OF_TWO = ["f1", "jaccard", "fbeta:beta=2.0"]
OF_CLASSES = [
    "macro_f1", "micro_f1", "accuracy", "balanced_accuracy", "g_mean", "mcc", "kappa", "quadratic_kappa", "mean_iou",
    "dice", "dice:background=True", "fbeta:beta=2.0,average=macro",
]  # fmt: skip


def drawn(classes, rows=300):
    g = torch.Generator().manual_seed(classes)
    scores = torch.randn(rows, generator=g) if classes == 1 else torch.randn(rows, classes, generator=g)
    groups = 3 * torch.randint(40, (rows,), generator=g)
    weights = torch.rand(len(groups.unique()), generator=g).double()
    return scores, torch.randint(max(2, classes), (rows,), generator=g), groups, weights


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "classes"), [*((n, c) for n in OF_CLASSES for c in (1, 2, 4)), *((n, c) for n in OF_TWO for c in (1, 2))]
)
def test_the_value_is_the_mean_of_the_groups_one_by_one(name, classes, weighted):
    metric, (scores, targets, groups, weights) = mg.as_metric(name), drawn(classes)
    rows = [groups == k for k in groups.unique()]
    each = torch.stack([metric(scores[some], targets[some]).double() for some in rows])
    share = (weights if weighted else torch.ones_like(weights)) * ~each.isnan()
    given = {"sample_weight": weights} if weighted else {}
    found = metric(scores, targets, groups=groups, **given)
    assert float(found) == pytest.approx(float((each.nan_to_num() * share).sum() / share.sum()), abs=1e-6)


def test_many_sets_of_scores_are_taken_in_parts(monkeypatch):
    from metricgrad.metrics.families import group_means

    metric, (scores, targets, groups, _) = mg.as_metric("macro_f1"), drawn(4)
    stack = scores + torch.arange(5)[:, None, None] * torch.eye(4)[0]
    whole = metric.over(stack, targets, groups=groups)
    monkeypatch.setattr(group_means, "_AT_ONCE", 2)
    torch.testing.assert_close(metric.over(stack, targets, groups=groups), whole)


def test_many_classes_in_many_groups_are_taken_in_parts(monkeypatch):
    """Of classes that are predicted too, where targets have few."""
    from metricgrad.metrics.families import group_means

    metric, (scores, _, groups, _) = mg.as_metric("macro_f1"), drawn(50)
    targets, most = torch.zeros(len(scores), dtype=torch.long), []
    whole, count = metric(scores, targets, groups=groups), group_means.counts_of_groups

    def counted(*args):
        most.append((found := count(*args)).hit.numel())
        return found

    monkeypatch.setattr(group_means, "counts_of_groups", counted)
    monkeypatch.setattr(group_means, "_AT_ONCE", 350)
    torch.testing.assert_close(metric(scores, targets, groups=groups), whole)
    assert max(most) <= 350
