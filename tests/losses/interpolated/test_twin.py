"""A foreign metric is trained on by its built-in twin as long as both agree, and by few calls where there is none."""

import time
import warnings

import pytest
import sklearn.metrics
import torch
import torchmetrics

import metricgrad as mg
from metricgrad.losses.interpolated.lists.list_losses import many_lists as linearised
from metricgrad.losses.interpolated.lists.ranked_lists import ranked_lists
from metricgrad.losses.interpolated.twin import Twin
from metricgrad.metrics.families.class_sums import KAPPA
from metricgrad.refactoring.batch import checked
from metricgrad.refactoring.from_structure import for_batch


def batches(count, classes=4):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        targets = torch.randint(classes, (48,), generator=generator)
        yield torch.randn(48, classes, generator=generator) + torch.nn.functional.one_hot(targets, classes), targets


def gradients(loss, count):
    found = []
    for scores, targets in batches(count):
        leaf = scores.requires_grad_()
        loss(leaf, targets).backward()
        found.append(leaf.grad)
    return found


class Counted:
    """Accuracy as anybody might write it, and how often it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, labels, targets):
        self.calls += 1
        return (labels == targets).mean()


def test_gradients_are_those_of_the_built_in_metric():
    foreign = mg.UniLoss(mg.as_metric(sklearn.metrics.f1_score, average="macro"), base_weight=0.1, weight=1.0)
    ours = mg.UniLoss("macro_f1", base_weight=0.1, weight=1.0)
    for a, b in zip(gradients(foreign, 6), gradients(ours, 6), strict=True):
        torch.testing.assert_close(a, b)


def lists(count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        targets = (torch.rand(48, generator=generator) < 0.3).long()
        yield torch.randn(48, generator=generator) + targets, targets


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (sklearn.metrics.roc_auc_score, "auroc"),
        (sklearn.metrics.average_precision_score, "average_precision"),
        (torchmetrics.AUROC(task="binary"), "auroc"),
    ],
)
def test_a_list_is_trained_on_by_the_twin_too(metric, name):
    foreign, calls = mg.as_metric(metric), []
    original = foreign._fn
    foreign._fn = lambda *args, **options: calls.append(1) or original(*args, **options)
    losses, before = [mg.UniLoss(m, base_weight=0.1, weight=1.0) for m in (foreign, name)], 0
    for step, (scores, targets) in enumerate(lists(6)):
        slopes = []
        for loss in losses:
            leaf = scores.clone().requires_grad_()
            loss(leaf, targets).backward()
            slopes.append(leaf.grad)
        torch.testing.assert_close(*slopes)
        before = before if step >= 3 else len(calls)
    assert before >= 3
    assert len(calls) == before


def many_lists(kind, generator):
    targets = torch.randint(2 if kind in ("labels", "queries") else 4, (48, 5), generator=generator)
    if kind == "classes":
        targets = torch.randint(5, (48,), generator=generator)
        one_hot = torch.nn.functional.one_hot(targets, 5)
        return torch.randn(48, 5, generator=generator) + one_hot, targets, {}
    scores = torch.randn(48, 5, generator=generator) + targets
    if kind in ("labels", "rows"):
        return scores, targets, {}
    if kind == "values":
        return scores[:, 0], targets[:, 0] + torch.rand(48, generator=generator), {}
    return scores.flatten(), targets.flatten(), {"groups": torch.randint(20, (240,), generator=generator)}


MANY = {
    "mean AP of labels": (
        torchmetrics.AveragePrecision(task="multilabel", num_labels=5),
        "labels",
        "average_precision",
    ),
    "mean AUROC of labels": (torchmetrics.AUROC(task="multilabel", num_labels=5), "labels", "auroc"),
    "mean AP of classes": (
        torchmetrics.AveragePrecision(task="multiclass", num_classes=5),
        "classes",
        "average_precision",
    ),
    "mean AUROC of classes": (torchmetrics.AUROC(task="multiclass", num_classes=5), "classes", "auroc"),
    "mean AP of scikit-learn": (sklearn.metrics.average_precision_score, "labels", "average_precision"),
    "mean AUROC of scikit-learn": (mg.as_metric(sklearn.metrics.roc_auc_score, multi_class="ovr"), "classes", "auroc"),
    "NDCG of scikit-learn": (mg.as_metric(sklearn.metrics.ndcg_score, k=3), "rows", "ndcg:k=3"),
    "NDCG of queries": (torchmetrics.retrieval.RetrievalNormalizedDCG(top_k=4), "graded queries", "ndcg:k=4"),
    "MAP of queries": (torchmetrics.retrieval.RetrievalMAP(), "queries", "map"),
    "MRR of queries": (torchmetrics.retrieval.RetrievalMRR(), "queries", "mrr"),
    "precision of queries": (torchmetrics.retrieval.RetrievalPrecision(top_k=3), "queries", "precision_at_k:k=3"),
    "recall of queries": (torchmetrics.retrieval.RetrievalRecall(top_k=3), "queries", "recall_at_k:k=3"),
    "hits of queries": (torchmetrics.retrieval.RetrievalHitRate(top_k=2), "queries", "hit_rate:k=2"),
    "Spearman": (torchmetrics.SpearmanCorrCoef(), "values", "spearman"),
}


@pytest.mark.parametrize("case", MANY)
def test_many_lists_are_trained_on_by_the_twin(case):
    metric, kind, name = MANY[case]
    foreign, calls, before = mg.as_metric(metric), [], 0
    assert foreign.twin is not None
    original = foreign._fn
    foreign._fn = lambda *args, **options: calls.append(1) or original(*args, **options)
    losses, generator = [mg.UniLoss(m, base_weight=0.1, weight=1.0) for m in (foreign, name)], torch.Generator()
    for step in range(6):
        scores, targets, context = many_lists(kind, generator.manual_seed(step))
        slopes = []
        for loss in losses:
            leaf = scores.clone().requires_grad_()
            loss(leaf, targets, **context).backward()
            slopes.append(leaf.grad)
        torch.testing.assert_close(*slopes)
        before = before if step >= 3 else len(calls)
    assert len(calls) == before >= 3


@pytest.mark.parametrize("kind", ["classes", "labels"])
@pytest.mark.parametrize("ours", ["auroc", "average_precision"])
@pytest.mark.parametrize("library", ["scikit-learn", "torchmetrics"])
def test_columns_that_count_as_often_as_they_have_positives(library, ours, kind, recwarn):
    theirs = sklearn.metrics.roc_auc_score if ours == "auroc" else sklearn.metrics.average_precision_score
    more = {"multi_class": "ovr"} if ours == "auroc" and kind == "classes" else {}
    if library == "torchmetrics":
        theirs, more = torchmetrics.AUROC if ours == "auroc" else torchmetrics.AveragePrecision, {}
        of = {"task": "multiclass", "num_classes": 5} if kind == "classes" else {"task": "multilabel", "num_labels": 5}
        metric = mg.as_metric(theirs(average="weighted", **of))
    else:
        metric = mg.as_metric(theirs, average="weighted", **more)
    calls, original = [], metric._fn
    metric._fn = lambda *args, **options: calls.append(1) or original(*args, **options)
    loss, generator = mg.UniLoss(metric), torch.Generator()
    for step in range(5):
        scores, targets, _ = many_lists(kind, generator.manual_seed(step))
        if step % 2:  # a class without positives
            targets = targets.where(targets != 4, 3) if kind == "classes" else targets * (torch.arange(5) != 4)
        before = len(calls)
        value = loss(scores.clone().requires_grad_(), targets)
        assert len(calls) == before or step < 3
        assert float(value.detach()) == pytest.approx(1 - float(metric(scores, targets)), abs=1e-5)
    assert not [w for w in recwarn if "is called itself" in str(w.message)]

    path, plain = metric.twin, mg.as_metric(ours)
    scores, targets, _ = many_lists("labels", generator.manual_seed(9))
    share = targets.sum(0) / targets.sum()

    def gradient(path, scores, targets):
        batch = checked(plain, scores, targets, {}, check_finite=True)
        lists = ranked_lists(batch, for_batch(plain.structure, batch, plain), path)
        return linearised(path, {}, batch, lists, q=None).gradient

    columns = [gradient(plain.fast_path, scores[:, c], targets[:, c]) for c in range(5)]
    torch.testing.assert_close(gradient(path, scores, targets), torch.stack(columns, 1) * share)


@pytest.mark.parametrize("options", [{"empty_target_action": "skip"}, {"empty_target_action": "pos"}])
def test_queries_without_an_answer_count_as_the_metric_says(options):
    metric = mg.as_metric(torchmetrics.retrieval.RetrievalMAP(**options))
    scores, targets, context = many_lists("queries", torch.Generator().manual_seed(0))
    targets = targets * (context["groups"] > 3)
    loss = mg.UniLoss(metric)
    value = loss(scores.requires_grad_(), targets, **context)
    assert float(value.detach()) == pytest.approx(float(1 - metric(scores.detach(), targets, **context)), abs=1e-5)
    assert (metric.twin is None) == (options["empty_target_action"] == "pos")


def test_a_list_whose_twin_has_another_value_is_called():
    def squared(targets, scores):
        return sklearn.metrics.roc_auc_score(targets, scores) ** 2

    def train():
        for scores, targets in lists(3):
            loss(scores.requires_grad_(), targets).backward()

    metric = mg.as_metric(sklearn.metrics.roc_auc_score)
    metric._fn = squared
    loss = mg.UniLoss(metric)
    with pytest.warns(UserWarning, match="it is called itself, which takes longer") as said:
        train()
    assert len([w for w in said if "called itself" in str(w.message)]) == 1


def test_the_original_is_called_on_the_first_steps_alone():
    metric = mg.as_metric(sklearn.metrics.accuracy_score)
    calls, original = [], metric._fn
    metric._fn = lambda *args, **options: calls.append(1) or original(*args, **options)
    loss = mg.UniLoss(metric)
    gradients(loss, 3)
    before = len(calls)
    gradients(loss, 8)
    assert before >= 6
    assert len(calls) == before


def test_where_they_differ_the_original_is_called_from_then_on_and_that_is_said_once():
    metric = mg.as_metric(sklearn.metrics.accuracy_score)
    metric.twin = KAPPA
    loss, alone = mg.UniLoss(metric), mg.UniLoss(metric)
    with pytest.warns(UserWarning, match=r"accuracy_score.* is 0\.\d+ on this batch and .* as we compute it") as said:
        found = gradients(loss, 5)
    assert len([w for w in said if "as we compute it" in str(w.message)]) == 1
    alone.load_state_dict(loss.state_dict())
    assert alone.form.form._rows.twin.left
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*as we compute it")
        gradients(alone, 2)
    metric.twin = None
    for a, b in zip(gradients(mg.UniLoss(metric), 5), found, strict=True):
        torch.testing.assert_close(a, b)


def one_column(scores, targets):
    return scores[:, 1] - scores[:, 0], targets


@pytest.mark.parametrize(
    ("metric", "shaped"),
    [
        (torchmetrics.MatthewsCorrCoef(task="binary"), one_column),
        (torchmetrics.MatthewsCorrCoef(task="multiclass", num_classes=2), lambda scores, targets: (scores, targets)),
    ],
)
@pytest.mark.parametrize("degenerate", ["one wrong row", "one class", "one class predicted"])
def test_mcc_keeps_its_twin_where_a_class_is_missing(metric, shaped, degenerate):
    own, loss = mg.as_metric(metric), mg.UniLoss(mg.as_metric(metric), base_weight=0.1, weight=1.0)
    built_in = mg.UniLoss("mcc", base_weight=0.1, weight=1.0)
    for step, (scores, targets) in enumerate(batches(6, 2)):
        if step % 2 == 0:
            if degenerate == "one class predicted":
                scores[:, 1] -= 10
            else:
                targets = torch.zeros_like(targets)
            if degenerate == "one wrong row":
                scores, targets = torch.tensor([[0.0, 1.0]]), targets[:1]
        slopes = []
        for each in (loss, built_in):
            leaf, rows = shaped(scores.clone().requires_grad_(), targets)
            leaf.retain_grad()
            value = each(leaf, rows)
            value.backward()
            slopes.append(leaf.grad)
            if each is loss:
                assert float(value.detach()) == pytest.approx(1 - float(own(leaf.detach(), rows)), abs=1e-5)
        torch.testing.assert_close(*slopes)
    assert not loss.form.form._rows.twin.left


@pytest.mark.parametrize("classes", [2, 10, 40, 100])
def test_an_unknown_metric_is_called_sixteen_times_a_step_at_most(classes):
    counted = Counted()
    metric = mg.as_metric(counted, higher_is_better=True, reads="labels", inputs="numpy", name="mine")
    loss = mg.UniLoss(metric)
    for step, (scores, targets) in enumerate(batches(6, classes)):
        before = counted.calls
        loss(scores.requires_grad_(), targets).backward()
        assert step == 0 or counted.calls - before <= 16  # it is probed first


def test_a_step_that_takes_long_is_said_once():
    def slow(labels, targets):
        time.sleep(0.005)
        return (labels == targets).float().mean()

    loss = mg.UniLoss(mg.as_metric(slow, higher_is_better=True, reads="labels"))
    with pytest.warns(UserWarning, match=r"'slow' can only be called, up to 16 times in each step") as said:
        gradients(loss, 4)
    assert len([w for w in said if "can only be called" in str(w.message)]) == 1


def test_a_machine_that_is_busy_for_a_moment_makes_no_metric_slow():
    seconds = iter([0.02, 0.02, 0.0, 0.02])
    twin = Twin(mg.as_metric("accuracy"))

    def values():
        time.sleep(next(seconds))
        return torch.zeros(2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            twin.tell_cost(values, 16)


def test_ties_that_the_order_of_the_data_decides_are_no_reason_to_leave_a_twin():
    loss = mg.UniLoss(torchmetrics.retrieval.RetrievalMAP())
    targets = (torch.arange(40) % 3 == 0).long().reshape(10, 4)
    for seed in range(3):
        scores = torch.randn(10, 4, generator=torch.Generator().manual_seed(seed))
        loss((scores.round() if seed else scores).requires_grad_(), targets)
    assert not loss.form.form._rows.twin.left
