"""A file becomes a task that compare, the losses and the metrics take like any other."""

import warnings

import numpy as np
import pytest
import torch

import metricgrad as mg
from metricgrad.tables.task import task_of_table
from tests.tables.frames import grades, people, prices


def test_a_file_is_a_task(tmp_path):
    people().to_csv(tmp_path / "churn.csv", index=False)
    task = mg.task_of_table(tmp_path / "churn.csv", target="left", metric="f1", drop=["since"])
    assert (task.name, task.kind, task.standard, task.redraws) == ("churn", "binary", "cross_entropy", True)
    train, valid, test = task.load(3)
    assert [len(part[1]) for part in (train, valid, test)] == [120, 40, 40]
    assert torch.equal(task.load(3)[0][0], train[0])
    assert not torch.equal(task.load(4)[0][0], train[0])
    assert task.model()(train[0]).shape == (120,)
    assert torch.equal(task.preprocessing(3).transform(task.frame)[task.rows(3).train], train[0])
    assert task.describe()[-1].startswith("parts: 120 to train on, 40 to choose by and 40 to judge by; drawn anew")


def test_rows_without_a_target_are_left_out():
    frame = people()
    frame.loc[:9, "left"] = None
    assert len(task_of_table(frame, target="left", metric="f1").frame) == 190


@pytest.mark.parametrize(("metric", "unit"), [("mae", 100), ("mse", 10_000), ("r2", 1)])
def test_values_are_told_in_the_unit_of_the_file(metric, unit):
    task = task_of_table(prices(), target="price", metric=metric)
    scores, targets = torch.zeros(40), task.load(0)[2][1]
    scale = task.schema.target.scale
    plain = mg.as_metric(metric)(scores, targets)
    expected = plain * {"mae": scale, "mse": scale**2, "r2": 1}[metric]
    assert float(task.judged_by()(scores, targets)) == pytest.approx(float(expected), rel=1e-5)
    assert scale == pytest.approx(100, rel=0.2)


def test_grades_in_their_order():
    task = task_of_table(grades(), target="grade", metric="quadratic_kappa", classes=["low", "medium", "high"])
    assert task.kind == "multiclass"
    assert task.model()(task.load(0)[1][0]).shape == (60, 3)


def test_time_and_split_columns_leave_one_test_part():
    frame = people().assign(part=["train"] * 150 + ["test"] * 50)
    task = task_of_table(frame, target="left", metric="f1", time="since")
    assert not task.redraws
    assert task.describe()[-1].endswith("by 'since', the latest to judge by")
    task = task_of_table(frame, target="left", metric="f1", split="part")
    assert not task.redraws
    assert "as 'part' says" in task.describe()[-1]


def test_groups_that_are_in_two_parts_are_counted():
    frame = people().assign(part=["train"] * 150 + ["test"] * 50, shop=[f"s{k % 197}" for k in range(200)])
    said = task_of_table(frame, target="left", metric="f1", group="shop", split="part").describe()[-1]
    assert said.startswith("of 'shop' 3 are in more than one part, as 'part' says")
    for apart in ({"split": "part"}, {"group": "shop"}, {"group": "shop", "time": "since"}):
        said = task_of_table(frame, target="left", metric="f1", **apart).describe()[-1]
        assert said.startswith("parts: ")
    assert said.endswith("by 'since', the latest to judge by, no 'shop' in two parts, each by its latest row")


def test_columns_of_a_frame_may_be_named_by_numbers():
    frame = people().rename(columns={"left": 14, "since": 3})
    for fourteen in (14, np.int64(14), "14"):
        task = task_of_table(frame, target=fourteen, metric="f1", drop=[np.int64(3), "who"])
        assert task.schema.target.name == "14"
        assert {"3", "who"} <= task.schema.left_out.keys()
    with pytest.raises(mg.MetricgradError, match="target is '15', and the table has no such column"):
        task_of_table(frame, target=np.int64(15), metric="f1")


@pytest.mark.parametrize("call", [mg.compare, mg.train_table])
def test_a_frame_is_no_task_and_how_to_make_one_is_said(call):
    with pytest.raises(mg.MetricgradError, match=r"task is a DataFrame; pass .*mg\.task_of_table\(\w+, target=\.\.\."):
        call(people())
    with pytest.raises(mg.MetricgradError, match="task is a list; pass"):
        call([1, 2])


def test_an_unknown_loss_names_those_that_serve():
    task = task_of_table(people(), target="left", metric="f1")
    with pytest.raises(mg.MetricgradError, match=r"unknown loss 'xgboost': known are .*lightgbm") as told:
        task.check_loss("xgboost")
    assert "focal" in str(told.value)
    assert not any(name in str(told.value) for name in ("mse", "triplet", "heatmap"))


def test_a_metric_of_queries_is_refused():
    frame = people().assign(query=[f"q{k // 10}" for k in range(200)])
    with pytest.raises(mg.MetricgradError, match="row by row"):
        task_of_table(frame, target="left", metric="ndcg", group="query")


@pytest.mark.parametrize("frame_target_metric", [(people(), "left", "f1"), (prices(), "price", "mae")])
def test_compare_runs_on_it(tmp_path, frame_target_metric):
    frame, target, metric = frame_target_metric
    task = task_of_table(frame, target=target, metric=metric)
    task.epochs = 2
    table = mg.compare(task, losses=[task.standard, "uniloss"], trials=1, seeds=1, out=tmp_path, controls=False)
    assert {run["loss"] for run in table.runs} == {task.standard, "uniloss"}
    assert all(run["test"] is not None for run in table.runs)


@pytest.mark.parametrize("metric", ["f1", "average_precision"])
def test_scores_of_its_own_models_are_logits_wherever_they_lie(metric):
    task = task_of_table(people(), target="left", metric=metric)
    scores, targets = torch.rand(200, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.judged_by()(scores, targets)
    with pytest.warns(UserWarning, match="as probabilities do"):
        mg.as_metric(metric)(scores, targets)
