"""The loss of decisions in lists has in closed form what calls of the metric say of each decision."""

import math

import pytest
import sklearn.metrics
import torch
import torchmetrics

import metricgrad as mg
from metricgrad.losses.interpolated.lists import entry_lists as entry_lists_module
from metricgrad.losses.interpolated.lists.entry_lists import entry_lists
from metricgrad.losses.interpolated.lists.soft_tables import soft_tables
from metricgrad.metrics import of_labels
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.refactoring.batch import checked

N, C = 12, 5
OF_ENTRIES = ["f1", "micro_f1", "mcc", "kappa", "balanced_accuracy", "dice", "mean_iou", "jaccard"]
APART = ["macro_f1", "weighted_f1", "samples_f1", "fbeta:beta=2,average=macro", "jaccard:average=samples"]


def draw(seed, *shape, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    targets = (torch.rand(shape, generator=g) < 0.4).long()
    return torch.randn(shape, generator=g, dtype=dtype) + 0.5 * targets, targets


def some(kind):
    g = torch.Generator().manual_seed(7)
    return {
        "plain": {},
        "weights": {"sample_weight": torch.tensor([0.5, 2.0, 0.0, 1.0] * 3, dtype=torch.float64)},
        "rows": {"mask": torch.arange(N) % 3 > 0},
        "entries": {"mask": torch.rand(N, C, generator=g) < 0.7},
        "weighted entries": {
            "mask": torch.rand(N, C, generator=g) < 0.7,
            "sample_weight": torch.tensor([0.5, 2.0, 0.0, 1.0] * 3, dtype=torch.float64),
        },
        "groups": {"groups": torch.arange(N) // 4 * 3},
        "weighted groups": {"groups": torch.arange(N) // 4, "sample_weight": torch.tensor([1.0, 3.0, 0.5])},
    }[kind]


def closed(metric, scores, targets, context, q=0.5):
    batch = checked(metric, scores, targets, context, check_finite=True)
    lists = entry_lists(metric.fast_path, batch, metric.structure)
    assert lists is not None
    return batch, lists, soft_tables(metric, batch, lists, q=q)


CASES = [
    *((name, kind) for name in (*OF_ENTRIES, *APART) for kind in ("plain", "weights", "rows", "entries")),
    *((name, "weighted entries") for name in ("micro_f1", *APART)),
    *((name, kind) for name in OF_ENTRIES for kind in ("groups", "weighted groups")),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_decision_is_worth_what_the_metric_says_of_it(name, kind):
    """Where all scores are sure, and with the tail of the plain expectation."""
    metric, (scores, targets), context = mg.as_metric(name), draw(3, N, C), some(kind)
    batch, lists, _ = closed(metric, 60 * scores.sign(), targets, context)
    flat = batch.targets.flatten().long()
    yes = (batch.scores.flatten() > 0).double()[None]
    cells = lists.cells(yes, flat)
    found = lists.changes(cells[0], yes[0], flat, lists.means(cells, yes, flat)[1])

    moved = batch.scores.flatten().repeat(2, len(flat), 1)  # each entry as yes, then each as no
    for side, score in enumerate((60.0, -60.0)):
        moved[side].fill_diagonal_(score)
    values = batch.values(metric, moved.view(-1, *batch.scores.shape)).double().view(2, -1)
    torch.testing.assert_close(found, values[0] - values[1], rtol=1e-4, atol=1e-6)
    assert found.any()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_gradient_is_that_of_the_loss_and_the_value_the_metrics_distance(name, kind):
    metric, (scores, targets), context = mg.as_metric(name), draw(4, N, C), some(kind)
    batch, _, found = closed(metric, scores, targets, context)
    leaf = batch.scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(found.loss(leaf), leaf)
    torch.testing.assert_close(found.gradient, expected)
    ideal = metric(2.0 * targets - 1, targets, **context)
    shown = mg.UniLoss(name)(scores, targets, **context)
    assert float(shown) == pytest.approx(float(ideal - metric(scores, targets, **context)), abs=1e-6)


def test_the_plain_expectation_is_the_slope_of_the_metric_at_soft_tables():
    """To first order: in a long list one decision is worth the slope."""
    scores, targets = draw(5, 4000, 2)
    _, _, found = closed(mg.as_metric("macro_f1"), scores, targets, {}, q=1.0)
    leaf = scores.clone().requires_grad_()
    p = leaf.sigmoid()
    soft = (2 * (p * targets).sum(0) / (p.sum(0) + targets.sum(0))).mean()
    (expected,) = torch.autograd.grad(-soft, leaf)
    torch.testing.assert_close(found.gradient, expected, rtol=3e-3, atol=1e-9)


def test_masks_of_pixels_are_lists():
    scores, targets = draw(6, 3, 4, 5)
    for context in ({}, {"groups": torch.arange(3)}):
        _, lists, found = closed(mg.as_metric("dice"), scores, targets, context)
        assert lists.count == (3 if context else 1)
        assert found.gradient.numel() == scores.numel()


def test_an_image_without_an_object_may_lie_among_others():
    scores, targets = draw(8, 3, 4, 4)
    targets[1] = 0
    scores[1] = -3.0
    loss = mg.UniLoss("dice")
    leaf = scores.requires_grad_()
    value = loss(leaf, targets, groups=torch.arange(3))
    value.backward()
    metric = mg.as_metric("dice")
    assert float(value) == pytest.approx(1 - float(metric(scores.detach(), targets, groups=torch.arange(3))), abs=1e-6)
    assert leaf.grad.isfinite().all()


OF_LABELS = {"task": "multilabel", "num_labels": C}


@pytest.mark.parametrize(
    "metric",
    [
        *(
            kind(average=average, **OF_LABELS)
            for kind in (
                torchmetrics.Accuracy, torchmetrics.HammingDistance, torchmetrics.Specificity, torchmetrics.JaccardIndex
            )
            for average in ("macro", "micro")
        ),
        torchmetrics.FBetaScore(beta=2.0, average="macro", **OF_LABELS),
        torchmetrics.JaccardIndex(average="weighted", **OF_LABELS),
        torchmetrics.ExactMatch(**OF_LABELS),
        sklearn.metrics.accuracy_score,
        sklearn.metrics.zero_one_loss,
        sklearn.metrics.hamming_loss,
    ],
)  # fmt: skip
def test_several_labels_a_row_are_in_closed_form(metric, recwarn):
    """Where all decisions are sure each is worth what the metric says; it is called in the first steps alone."""
    metric = mg.as_metric(metric)
    (scores, targets), calls, original = draw(14, N, C), [], metric._fn
    scores, targets[:, 0] = scores.round(), 0
    batch = checked(metric, 60 * scores.sign(), targets, {}, check_finite=True)
    lists, flat = entry_lists(metric.twin, batch, metric.structure), batch.targets.flatten()
    yes = (batch.scores.flatten() > 0).double()[None]
    cells = lists.cells(yes, flat)
    gains = lists.changes(cells[0], yes[0], flat, lists.means(cells, yes, flat)[1])
    moved = batch.scores.flatten().repeat(2, len(flat), 1)
    for side, score in enumerate((60.0, -60.0)):
        moved[side].fill_diagonal_(score)
    values = batch.values(metric, moved.view(-1, *batch.scores.shape)).double().view(2, -1)
    expected = values[0] - values[1]
    if isinstance(lists.path, (of_labels.AllRight, of_labels.Complement)) and lists.count == N:
        gains, expected = gains[expected != 0] / (1 - math.exp(-1)), expected[expected != 0]
    torch.testing.assert_close(gains, expected, rtol=1e-4, atol=1e-6)

    away = abs(float(metric(2.0 * targets - 1, targets) - metric(scores, targets)))
    metric._fn, loss = lambda *args, **options: calls.append(1) or original(*args, **options), mg.UniLoss(metric)
    for _ in range(4):
        before = len(calls)
        leaf = scores.clone().requires_grad_()
        value = loss(leaf, targets)
        value.backward()
        assert float(value.detach()) == pytest.approx(away, abs=1e-6)
    assert len(calls) == before
    assert not [w for w in recwarn if "is called itself" in str(w.message)]


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (mg.as_metric(sklearn.metrics.f1_score, average="macro"), "macro_f1"),
        (mg.as_metric(sklearn.metrics.f1_score, average="micro"), "micro_f1"),
        (mg.as_metric(sklearn.metrics.f1_score, average="weighted"), "weighted_f1"),
        (mg.as_metric(sklearn.metrics.f1_score, average="samples"), "samples_f1"),
        (torchmetrics.F1Score(task="multilabel", num_labels=C, average="macro"), "macro_f1"),
        (torchmetrics.F1Score(task="multilabel", num_labels=C, average="micro"), "micro_f1"),
    ],
)
def test_a_foreign_metric_is_trained_on_by_its_twin(metric, name, recwarn):
    theirs, ours = mg.UniLoss(metric), mg.UniLoss(name)
    for seed in range(5):
        scores, targets = draw(seed, 24, C, dtype=torch.float32)
        found = []
        for loss in (theirs, ours):
            leaf = scores.clone().requires_grad_()
            value = loss(leaf, targets)
            value.backward()
            found.append((value.detach(), leaf.grad))
        torch.testing.assert_close(found[0], found[1])
    assert not [w for w in recwarn if "is called itself" in str(w.message)]


def test_a_batch_without_any_yes_says_nothing():
    loss, scores = mg.UniLoss("macro_f1"), torch.randn(6, 3)
    loss(scores, torch.eye(6, 3).long())  # one that does
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, torch.zeros(6, 3, dtype=torch.long))
    value.backward()
    assert float(value.detach()) == 0  # as no decision would be worth more
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", ["micro_f1", "jaccard:average=micro"])
@pytest.mark.parametrize("shape", [(12,), (12, 1), (6, 3, 2)])
def test_one_answer_a_row_in_groups_is_counted_as_the_metric_counts_it(name, shape):
    """There a no is a class like a yes: micro F1 is accuracy."""
    (scores, targets), groups = draw(9, *shape), torch.arange(shape[0]) // 3
    metric, leaf = mg.as_metric(name), scores.clone().requires_grad_()
    value = mg.UniLoss(name)(leaf, targets, groups=groups)
    value.backward()
    assert float(value.detach()) == pytest.approx(1 - float(metric(scores, targets, groups=groups)), abs=1e-6)
    assert ((leaf.grad < 0) == (targets == 1)).all()


@pytest.mark.parametrize("name", ["dice", "kappa"])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 4)])
def test_no_list_has_an_ideal_value(name, shape):
    loss, (scores, targets) = mg.UniLoss(name), draw(10, *shape, dtype=torch.float32)
    context = {"groups": torch.arange(shape[0])} if len(shape) > 2 else {}
    leaf = scores.requires_grad_()
    with pytest.warns(UserWarning, match="is undefined on this batch"):
        value = loss(leaf, torch.zeros_like(targets), **context)
    value.backward()
    assert float(value.detach()) == 0
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torchmetrics.F1Score, torchmetrics.Precision, torchmetrics.Recall])
def test_a_mean_weighted_by_targets_has_no_twin(kind, recwarn):
    metric = mg.as_metric(kind(task="multilabel", num_labels=C, average="weighted"))
    scores, targets = draw(11, 24, C, dtype=torch.float32)
    shown = mg.UniLoss(metric)(scores, targets)
    assert float(shown) == pytest.approx(1 - float(metric(scores, targets)), abs=1e-6)
    assert not [w for w in recwarn if "is called itself" in str(w.message)]


@pytest.mark.parametrize("kind", ["plain", "weights", "rows", "entries", "weighted entries"])
def test_a_row_is_right_where_all_its_labels_are(kind):
    """A decision is worth the chance that the others are right, by how many of them are expected to be wrong."""
    (scores, targets), context, metric = draw(13, N, C), some(kind), mg.as_metric("accuracy")
    batch, lists, found = closed(metric, scores, targets, context)
    flat = batch.targets.flatten()
    wrong = (batch.scores.flatten().sigmoid() - flat).abs()
    others = torch.zeros(lists.count, dtype=wrong.dtype).index_add(0, lists.which, wrong)[lists.which] - wrong
    share = torch.ones(lists.count, dtype=wrong.dtype) if lists.share is None else lists.share
    worth = (share / share.sum())[lists.which] * (-others).exp() * (1 - torch.tensor(-1.0).exp())
    yes = batch.scores.flatten().sigmoid()
    q = torch.where(flat == 1, yes, 1 - yes)
    expected = torch.where(flat == 1, -1, 1) * worth * q.sqrt() * (1 - q)
    torch.testing.assert_close(found.gradient.flatten(), expected)

    leaf = batch.scores.clone().requires_grad_()
    torch.testing.assert_close(found.gradient, torch.autograd.grad(found.loss(leaf), leaf)[0])
    shown = mg.UniLoss("accuracy")(scores, targets, **context)
    assert float(shown) == pytest.approx(1 - float(metric(scores, targets, **context)), abs=1e-6)


@pytest.mark.parametrize("kind", ["plain", "weights", "weighted groups"])
def test_many_entries_are_looked_at_in_parts(monkeypatch, kind):
    (scores, targets), context = draw(12, N, C), some(kind)
    whole = closed(mg.as_metric("mcc"), scores, targets, context)[2].gradient
    most, of_cells = [], ConfusionTables.of_cells
    monkeypatch.setattr(entry_lists_module, "_AT_ONCE", 7)
    monkeypatch.setattr(ConfusionTables, "of_cells", lambda cells: most.append(len(cells)) or of_cells(cells))
    torch.testing.assert_close(closed(mg.as_metric("mcc"), scores, targets, context)[2].gradient, whole)
    assert max(most) <= 14  # each as yes and as no
