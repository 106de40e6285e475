"""Every known foreign metric gives from raw scores what the bare function gives from what it documents."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch
import torchmetrics
import torchmetrics.classification as tmc
import torchmetrics.functional.classification as tc
import torchmetrics.retrieval as tmr

import metricgrad as mg
from tests.metrics.callables import SKLEARN, TORCHMETRICS, Case
from tests.metrics.tester import labels, quietly, sigmoid, softmax

KINDS = ["binary", "multiclass", "multilabel", "graded", "lists", "real"]


def example(kind: str, n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 scores and targets with every class present; two of the scores are equal."""
    g = torch.Generator().manual_seed(KINDS.index(kind))
    shape = (n,) if kind in ("binary", "graded", "real") else (n, 4)
    scores = torch.randn(shape, generator=g, dtype=torch.float64) * 2
    if kind == "real":
        return scores, torch.randn(shape, generator=g, dtype=torch.float64)
    if kind == "multiclass":
        return scores, torch.arange(n) % 4
    high = 4 if kind in ("graded", "lists") else 2
    return scores, torch.randint(0, high, shape, generator=g)


def handed(case: Case, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if case.delivery == "labels":
        return labels(scores, targets)
    if case.delivery == "probabilities":
        return sigmoid(scores) if scores.shape == targets.shape else softmax(scores)
    return scores


def check_known(metric: mg.Metric, case: Case) -> None:
    assert metric.higher_is_better is case.higher
    if case.structure is None:
        assert metric.structure is None
        return
    assert metric.structure is not None
    assert metric.structure.kind == case.structure
    params = metric.structure.params
    assert case.tells == params.get("within", params.get("k", metric.structure.exchangeable))


@pytest.mark.parametrize("case", SKLEARN, ids=lambda c: c.name)
def test_scikit_learn(case):
    metric = mg.as_metric(case.fn, **case.fixed)
    check_known(metric, case)
    scores, targets = example(case.kind)
    expected = quietly(case.fn, targets.numpy(), handed(case, scores.numpy(), targets.numpy()), **case.fixed)
    assert float(metric(scores, targets)) == pytest.approx(expected)
    if "sample_weight" in metric.context:
        weight = torch.rand(len(targets))
        if case.fixed.get("multi_class") != "ovo":
            found = metric(scores, targets, sample_weight=weight)
            read = handed(case, scores.numpy(), targets.numpy())
            expected = quietly(case.fn, targets.numpy(), read, sample_weight=weight.numpy(), **case.fixed)
            assert float(found) == pytest.approx(expected)
    if metric.structure is not None and metric.structure.kind == "differentiable":
        grad = scores.clone().requires_grad_()
        value = metric.differentiable(grad, targets)
        assert float(value.detach()) == pytest.approx(float(metric(scores, targets)))
        value.backward()


@pytest.mark.parametrize("case", TORCHMETRICS, ids=lambda c: c.name)
def test_torchmetrics(case):
    metric = mg.as_metric(case.fn, **case.fixed)
    check_known(metric, case)
    scores, targets = example(case.kind)
    read = torch.as_tensor(handed(case, scores.numpy(), targets.numpy()))
    value = case.fn(read, targets, **case.fixed)
    expected = float(value[0] if isinstance(value, tuple) else value)
    assert float(metric(scores, targets)) == pytest.approx(expected, abs=1e-6)
    if case.structure == "differentiable":
        grad = scores.clone().requires_grad_()
        metric.differentiable(grad, targets).backward()
        assert grad.grad is not None
        assert grad.grad.abs().sum() > 0


ORDER = [c for c in TORCHMETRICS if c.structure in ("positives_over_negatives", "labels")]


@pytest.mark.parametrize("case", ORDER, ids=lambda c: c.name)
def test_no_value_is_guessed_to_be_a_probability(case):
    """Logits squeezed into (0, 1), or far from it, are logits all the same."""
    metric = mg.as_metric(case.fn, **case.fixed)
    scores, targets = example(case.kind)
    if case.structure == "labels":
        small = torch.where(scores > 0, scores.abs() / 100 + 1e-3, -1e-3) if case.kind != "multiclass" else None
        small = torch.sigmoid(scores) if small is None else small
        assert metric(small, targets) == metric(scores, targets)
        if case.kind != "multiclass":
            inside = torch.rand(scores.shape)
            outside = torch.where(torch.rand(scores.shape) < 0.1, 1.5, inside)
            assert metric(inside, targets) == metric(outside, targets) == metric(torch.ones_like(scores), targets)
    elif case.kind != "multiclass":
        assert metric(scores * 1e-3 + 0.5, targets) == metric(scores * 20, targets)


def test_torchmetrics_itself_guesses_which_is_why_we_do_not():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.rand(100, generator=g), torch.randint(0, 2, (100,), generator=g)
    more = torch.cat([scores, torch.tensor([1.5])]), torch.cat([targets, torch.tensor([1])])
    assert abs(tc.binary_f1_score(scores, targets) - tc.binary_f1_score(*more)) > 0.1
    ours = mg.as_metric(tc.binary_f1_score)
    assert abs(ours(scores, targets) - ours(*more)) < 0.02
    assert ours(scores, targets) == sk.f1_score(targets, torch.ones(100))


OBJECTS = [
    (torchmetrics.AUROC(task="binary"), "binary", "auroc"),
    (torchmetrics.F1Score(task="binary"), "binary", "f1"),
    (torchmetrics.Accuracy(task="multiclass", num_classes=4, average="micro"), "multiclass", "accuracy"),
    (torchmetrics.Accuracy(task="multiclass", num_classes=4), "multiclass", "accuracy"),
    (torchmetrics.Accuracy(task="multiclass", num_classes=4, top_k=2), "multiclass", "top_k_accuracy"),
    (torchmetrics.CohenKappa(task="multiclass", num_classes=4, weights="quadratic"), "multiclass", "quadratic_kappa"),
    (tmc.MulticlassAUROC(num_classes=4), "multiclass", "auroc"),
    (tmc.MulticlassAveragePrecision(num_classes=4), "multiclass", "average_precision"),
    (tmc.MultilabelF1Score(num_labels=4), "multilabel", "macro_f1"),
    (tmc.MultilabelExactMatch(num_labels=4), "multilabel", "accuracy"),
    (tmc.BinaryRecallAtFixedPrecision(min_precision=0.9), "binary", "recall_at_precision"),
    (tmr.RetrievalMRR(), "binary", "mrr"),
    (tmr.RetrievalMAP(), "multilabel", "map"),
    (tmr.RetrievalNormalizedDCG(), "lists", "ndcg"),
    (tmr.RetrievalRecall(top_k=2), "multilabel", "recall_at_k:k=2"),
    (torchmetrics.SpearmanCorrCoef(), "real", "spearman"),
    (torchmetrics.MeanSquaredError(), "real", "mse"),
    (torchmetrics.R2Score(), "real", "r2"),
]


@pytest.mark.parametrize(("obj", "kind", "built_in"), OBJECTS, ids=lambda x: type(x).__name__ if callable(x) else x)
def test_torchmetrics_objects(obj, kind, built_in):
    metric, built_in = mg.as_metric(obj), mg.as_metric(built_in)
    scores, targets = example(kind)
    assert float(metric(scores, targets)) == pytest.approx(float(built_in(scores, targets)), abs=1e-5)
    assert metric.higher_is_better is built_in.higher_is_better
    assert metric.structure is not None
    assert built_in.structure is not None
    assert metric.structure.kind == built_in.structure.kind
    stack = torch.stack([scores, -scores, scores])
    again = metric.over(stack, targets)
    assert again[0] == again[2] == metric(scores, targets)
    assert obj.update_count == 0


def test_retrieval_objects_take_query_groups():
    scores, targets = example("binary")
    groups = torch.arange(40) // 8
    metric = mg.as_metric(tmr.RetrievalMRR())
    assert float(metric(scores, targets, groups=groups)) == pytest.approx(
        float(mg.as_metric("mrr")(scores, targets, groups=groups))
    )


def test_an_object_keeps_its_own_state_and_is_never_synchronised():
    obj = torchmetrics.MeanSquaredError(dist_sync_on_step=True)
    obj.update(torch.zeros(3), torch.ones(3))
    metric = mg.as_metric(obj)
    assert metric(torch.zeros(2), torch.full((2,), 3.0)) == 9
    assert obj.compute() == 1
    clone = metric._fn.metric._metric
    assert not any([clone._to_sync, clone.sync_on_compute, clone.dist_sync_on_step])


@pytest.mark.parametrize(
    "fn", [sk.f1_score, tc.binary_auroc, tmc.BinaryF1Score(), "ndcg:k=3"],
    ids=["scikit-learn", "torchmetrics", "torchmetrics module", "name"],
)  # fmt: skip
def test_metrics_travel_to_other_processes(fn):
    metric = mg.as_metric(fn)
    scores, targets = example("binary")
    for other in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        assert other(scores, targets) == metric(scores, targets)


def test_classes_compositions_and_collections():
    scores, targets = example("binary")
    f1 = mg.as_metric("f1")(scores, targets)
    assert float(mg.as_metric(tmc.BinaryFBetaScore, beta=1.0)(scores, targets)) == pytest.approx(float(f1))
    both = torchmetrics.MeanSquaredError() + torchmetrics.MeanAbsoluteError()
    metric = mg.as_metric(both, higher_is_better=False)
    real = example("real")
    expected = mg.as_metric("mse")(*real) + mg.as_metric("mae")(*real)
    assert float(metric(*real)) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(mg.MetricgradError, match="MetricCollection"):
        mg.as_metric(torchmetrics.MetricCollection({"f1": tmc.BinaryF1Score()}))
    with pytest.raises(mg.MetricgradError, match="cannot be set"):
        mg.as_metric(tmc.BinaryF1Score(), threshold=0.3)


def test_two_columns_are_a_binary_problem():
    scores, targets = example("binary")
    pairs = torch.stack([torch.zeros_like(scores), scores], 1)
    for fn in (
        sk.roc_auc_score,
        sk.average_precision_score,
        sk.f1_score,
        sk.log_loss,
        tc.binary_auroc,
        tc.binary_f1_score,
    ):
        metric = mg.as_metric(fn)
        assert float(metric(pairs, targets)) == pytest.approx(float(metric(scores, targets)), abs=1e-6)
    assert mg.as_metric(sk.hinge_loss)(pairs, targets) == pytest.approx(
        float(mg.as_metric(sk.hinge_loss)(scores, targets))
    )


def test_a_class_missing_from_the_batch():
    scores, targets = torch.randn(12, 4), torch.arange(12) % 3
    for fn, fixed in ((sk.log_loss, {}), (sk.top_k_accuracy_score, {}), (sk.average_precision_score, {})):
        assert mg.as_metric(fn, **fixed)(scores, targets).isfinite()
    assert mg.as_metric(sk.roc_auc_score, multi_class="ovr")(scores, targets).isnan()
    assert mg.as_metric(sk.log_loss)(torch.randn(4), torch.ones(4)).isfinite()


OF_CLASSES = [
    *({"multi_class": "ovr", "average": average} for average in ("macro", "weighted", "micro")),
    *({"multi_class": "ovo", "average": average} for average in ("macro", "weighted")),
]


@pytest.mark.parametrize("fixed", OF_CLASSES, ids=lambda fixed: "-".join(fixed.values()))
@pytest.mark.parametrize("named", [{}, {"labels": [0, 1, 2, 3]}], ids=["", "labels"])
@pytest.mark.parametrize("missing", [False, True])
def test_auroc_of_classes_has_scikit_learns_value_with_ties_weights_and_without_a_class(fixed, named, missing):
    scores, targets = example("multiclass")
    scores, targets = scores.round(), targets.clamp(max=2) if missing else targets
    probabilities = softmax(scores.numpy()).round(12)  # a softmax tells some ties apart in its last digits
    weights = [{}, {"sample_weight": torch.rand(40, generator=torch.Generator().manual_seed(0))}]
    for weight in weights[: 1 if fixed["multi_class"] == "ovo" else 2]:
        expected = quietly(
            sk.roc_auc_score, targets.numpy(), probabilities, labels=[0, 1, 2, 3], **fixed,
            **{name: value.numpy() for name, value in weight.items()},
        )  # fmt: skip
        found = mg.as_metric(sk.roc_auc_score, **fixed, **named)(scores, targets, **weight)
        assert float(found) == pytest.approx(expected, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("kind", ["ovr", "ovo"])
@pytest.mark.parametrize(("dtype", "anchored"), [(torch.float32, None), (torch.float64, False)])
def test_auroc_of_classes_can_be_trained_on(kind, dtype, anchored):
    start, targets = example("multiclass")
    scores = start.to(dtype).requires_grad_()
    loss = mg.UniLoss(mg.as_metric(sk.roc_auc_score, multi_class=kind), anchored=anchored)
    optimizer, values = torch.optim.Adam([scores], lr=1.0), []
    for _ in range(4):
        optimizer.zero_grad()
        value = loss(scores, targets)
        value.backward()
        assert scores.grad is not None
        assert scores.grad.abs().sum() > 0
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.7 * values[0]


def test_what_scikit_learn_refuses_names_the_metric_and_the_reason():
    with pytest.raises(mg.MetricgradError, match="multi_class must be in"):
        mg.as_metric(sk.roc_auc_score)(*example("multiclass"))
    with pytest.raises(mg.MetricgradError, match="estimator"):
        mg.as_metric(sk.make_scorer(sk.f1_score))
    with pytest.raises(mg.MetricgradError, match="say its task"):
        mg.as_metric(torchmetrics.functional.f1_score)
    with pytest.raises(mg.MetricgradError, match="higher_is_better"):
        mg.as_metric(sk.confusion_matrix)
    with pytest.raises(mg.MetricgradError, match="one number"):
        mg.as_metric(sk.confusion_matrix, higher_is_better=True, reads="labels")(*example("binary"))


def test_ignored_rows_stay_ignored():
    scores, targets = example("multiclass")
    targets[:5] = -100
    metric = mg.as_metric(tc.multiclass_f1_score, num_classes=4, ignore_index=-100)
    assert metric.structure is not None
    its_own = mg.as_metric(functools.partial(tc.multiclass_f1_score, num_classes=4, ignore_index=-100))
    assert its_own.structure == metric.structure
    assert its_own(scores, targets) == metric(scores, targets)
    kept = mg.as_metric(tc.multiclass_f1_score, num_classes=4)(scores[5:], targets[5:])
    assert float(metric(scores, targets)) == pytest.approx(float(kept))


def test_another_reads_hands_over_exactly_that():
    seen = mg.as_metric(sk.accuracy_score, reads="scores")
    assert seen.structure is None
    assert seen(torch.tensor([1.0, 0.0]), torch.tensor([1, 0])) == 1
    raw = mg.as_metric(tmc.BinaryF1Score(), reads="probabilities")
    assert raw.structure is None
    scores, targets = example("binary")
    assert float(raw(scores, targets)) == pytest.approx(float(mg.as_metric("f1")(scores, targets)))


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_columns_that_scikit_learn_is_told_to_leave_out_are_not_trained_on(average):
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(120, 8, generator=g) < 0.3).long()
    scores = (torch.randn(120, 8, generator=g) + targets).requires_grad_()
    metric = mg.as_metric(sk.f1_score, labels=[0, 1, 2], average=average)
    mg.UniLoss(metric, base_weight=0.0, weight=1.0)(scores, targets).backward()
    assert scores.grad[:, :3].any()
    assert not scores.grad[:, 3:].any()


@pytest.mark.parametrize("metric", [sk.f1_score, sk.fbeta_score, sk.precision_score, sk.recall_score, sk.jaccard_score])
def test_in_a_row_with_columns_left_out_no_label_stands_for_another(metric):
    beta = {"beta": 2.0} if metric is sk.fbeta_score else {}
    told = mg.as_metric(metric, labels=[0, 1, 2], average="samples", **beta)
    assert told.structure.exchangeable == "none"
    assert told.twin is None


@pytest.mark.parametrize("metric", [sk.accuracy_score, sk.zero_one_loss])
def test_rows_of_one_list_stand_for_each_other(metric):
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(200, generator=g) < 0.4).long()
    scores, gradients = torch.randn(200, generator=g) + targets, []
    for seed in (0, 1):
        leaf = scores.clone().requires_grad_()
        mg.UniLoss(metric, anchored=False, seed=seed)(leaf, targets).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].all()


@pytest.mark.parametrize("make", [tmc.BinaryF1Score, tmc.MultilabelF1Score, tc.binary_f1_score])
def test_a_cut_elsewhere_is_found_by_a_decision_and_not_set_in_the_metric(make):
    size = {"num_labels": 3} if make is tmc.MultilabelF1Score else {}
    with pytest.raises(mg.MetricgradError, match=r"threshold=0\.3: make it with 0\.5 and let mg\.fit_decision find"):
        mg.as_metric(make, threshold=0.3, **size)
    assert mg.as_metric(make, threshold=0.5, **size).reads == "labels"


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("make", ["F1Score", "Precision", "Specificity", "Accuracy", "Recall", "HammingDistance"])
def test_of_top_k_only_what_depends_on_hits_alone_is_described_so(make, average):
    """Sets of scores with the same hits, and other classes in place of the misses; two classes are never a target."""
    g = torch.Generator().manual_seed(0)
    metric = mg.as_metric(getattr(tmc, f"Multiclass{make}")(num_classes=5, top_k=2, average=average))
    targets = torch.arange(40) % 3
    hit, scores = torch.rand(40, generator=g) < 0.4, torch.randn(20, 40, 5, generator=g)
    own = torch.where(hit, scores.amax(-1) + 1, scores.amin(-1) - 1)
    values = metric.over(scores.scatter(-1, targets.expand(20, -1)[..., None], own[..., None]), targets)
    depends = not torch.allclose(values, values[0])
    assert metric.structure is None if depends else metric.structure.kind == "top_k"


@pytest.mark.parametrize(("theirs", "ours"), [(scipy.stats.spearmanr, "spearman"), (scipy.stats.kendalltau, "kendall")])
def test_scipy_s_rank_correlations_are_known(theirs, ours):
    metric, known = pickle.loads(pickle.dumps(mg.as_metric(theirs))), mg.as_metric(ours)
    assert (metric.reads, metric.structure.kind, metric.higher_is_better) == ("scores", "ranking", True)
    scores, targets = torch.randn(40).requires_grad_(), torch.randn(40)
    torch.testing.assert_close(metric(scores, targets), known(scores, targets))
    assert metric(torch.zeros(40), targets).isnan()
    mg.UniLoss(metric)(scores, targets).backward()
    assert scores.grad.any()
