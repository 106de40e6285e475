"""Which losses a task asks for."""

import pytest

import metricgrad as mg
from metricgrad.comparison.ladder import Situation, ladder


def adds(kind, metric, standard="cross_entropy", **more):
    found = ladder(Situation(kind, standard, mg.as_metric(metric), **more))
    return [rung.adds for rung in found.rungs], found


def test_a_binary_task_from_the_simplest_on():
    names, found = adds("binary", "f1", classes=(50, 950))
    assert names == ["cross_entropy", "+ decision", "+ class weights", "+ the metric"]
    assert [(rung.loss, rung.decided) for rung in found.rungs] == [
        ("cross_entropy", False),
        ("cross_entropy", True),
        ("cross_entropy:weighting=balanced", True),
        ("uniloss", True),
    ]
    assert found.losses == ["cross_entropy", "cross_entropy:weighting=balanced", "uniloss"]
    assert found.averages


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "recall_at_precision"])
def test_no_decision_where_the_metric_reads_an_order(metric):
    names, found = adds("binary", metric, classes=(50, 950))
    assert "+ decision" not in names
    cut = metric == "recall_at_precision"  # for which there is one, that does not change it
    assert ("the cut that reaches it goes with whatever is chosen" if cut else "reads") in found.left_out["decision"]
    assert all(rung.decided for rung in found.rungs)


def test_no_class_weights_where_classes_are_equal():
    names, found = adds("multiclass", "macro_f1", classes=(98, 102))
    assert "+ class weights" not in names
    assert found.left_out["class weights"] == "the largest class has 102 items to train on, the smallest 98"


def test_adalfl_by_statement_or_by_evidence():
    clean = {"classes": (90, 100)}
    losses = {"train_loss": 1.6, "valid_loss": 0.9, "valid_error": 0.05}
    assert "+ adalfl" in adds("multiclass", "accuracy", **clean, clean_valid=True)[0]
    names, found = adds("multiclass", "accuracy", **clean, **losses)
    assert "+ adalfl" in names
    assert "which looks cleaner: cross_entropy is 1.6 there and 0.9 on validation" in found.rungs[-1].why
    overfit, found = adds("multiclass", "accuracy", **clean, **(losses | {"train_loss": 0.2}))
    assert "+ adalfl" not in overfit
    assert found.left_out["adalfl"].startswith("the training part does not fit worse")
    assert "+ adalfl" not in adds("multiclass", "accuracy", **clean, **(losses | {"train_loss": 0.99}))[0]


def test_ala_where_its_knobs_have_something_to_turn():
    assert "+ ala" in adds("multiclass", "macro_f1", classes=(10, 100))[0]
    assert "+ ala" not in adds("multiclass", "macro_f1", classes=(20, 100))[0]
    assert "+ ala" not in adds("binary", "f1", classes=(10, 1000))[0]


def test_other_kinds_of_problem():
    names, found = adds("retrieval", "map_at_r", standard="triplet")
    assert names == ["triplet", "+ the metric", "+ ala"]
    assert found.rungs[-1].loss == "ala_triplet"
    assert not found.averages
    assert adds("regression", "spearman", standard="mse")[0] == ["mse", "+ the metric"]
    assert adds("keypoints", "pck", standard="gaussian_mse")[0] == [
        "gaussian_mse", "+ cross-entropy over pixels", "+ the metric",
    ]  # fmt: skip
    assert adds("tokens", "bleu", standard="token_cross_entropy")[0][-1] == "+ reloss"
    assert "+ reloss" in adds("spans", "span_f1")[0]


def test_no_class_weights_of_a_standard_loss_that_takes_none():
    names, _ = adds("binary", "f1", standard="focal", classes=(10, 100))
    assert names == ["focal", "+ decision", "+ the metric"]


def test_what_a_task_can_be_learned_with_beside_a_network_comes_last():
    names, found = adds("binary", "f1", classes=(50, 50), learners=("lightgbm",))
    assert names == ["cross_entropy", "+ decision", "+ the metric", "lightgbm"]
    assert found.rungs[-1].loss == "lightgbm"
