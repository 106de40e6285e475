"""``mg.train_table``: trained as asked for or as recommended, judged once, written whole, taken up after a kill."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import metricgrad as mg
from metricgrad.metrics.as_metric import as_metric
from metricgrad.training.engine import Engine
from tests.comparison.report import studies as finished
from tests.tables.frames import grades, people, prices


def task_of(frame, **options):
    task = mg.task_of_table(frame, **options)
    task.epochs = 3
    return task


@pytest.fixture(scope="module")
def task():
    return task_of(people(), target="left", metric="f1")


def study(folder, loss="cross_entropy", metric="f1", params=None, decision="threshold", **known):
    """A finished comparison that recommends this."""
    folder.mkdir(exist_ok=True)
    tuned = {**finished.run(loss, 0, 0.9), "params": params or {"lr": 0.02, "weight_decay": 1e-3}}
    said = {"loss": loss, "decision": decision, "why": "nothing adds to it"}
    summary = [finished.row(loss, 0.9, "baseline")]
    finished.write(folder, metric=metric, runs=[tuned], recommendation=said, summary=summary, **known)
    return folder


def test_a_model_is_trained_judged_and_written(task, tmp_path):
    model = mg.train_table(task, loss="cross_entropy", out=tmp_path / "model", progress=False)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "card.json",
        "model.safetensors",
        "preprocessing.safetensors",
    }
    frame, rows = people(), task.rows(0)
    test = frame.iloc[rows.test]
    assert model.card["test"] == pytest.approx(model.evaluate([test]).decided)
    assert model.card["test_undecided"] == pytest.approx(model.evaluate([test]).undecided)
    again = mg.load_model(tmp_path / "model")
    assert again.predict(frame).tolist() == model.predict(frame).tolist()
    assert again.card == model.card
    assert len(model.card["history"]) == 3
    assert all((path.stat().st_mode & 0o044) == 0o044 for path in (tmp_path / "model").iterdir())


def test_the_same_call_returns_it_and_another_is_refused(task, tmp_path, monkeypatch):
    first = mg.train_table(task, loss="cross_entropy", out=tmp_path, progress=False)
    monkeypatch.setattr(Engine, "training_step", None)
    again = mg.train_table(task, loss="cross_entropy", out=tmp_path, progress=False)
    assert again.card == first.card
    with pytest.raises(mg.MetricgradError, match="holds another model: loss was 'cross_entropy' and is now 'uniloss'"):
        mg.train_table(task, out=tmp_path)
    with pytest.raises(mg.MetricgradError, match="seed was 0 and is now 1"):
        mg.train_table(task, loss="cross_entropy", out=tmp_path, seed=1)
    other = task_of(people(seed=3), target="left", metric="f1")
    with pytest.raises(mg.MetricgradError, match=r"holds another model: it was trained on other rows\. Choose"):
        mg.train_table(other, loss="cross_entropy", out=tmp_path)


def test_a_folder_of_other_options_says_which(task, tmp_path):
    mg.train_table(task, loss="cross_entropy", out=tmp_path, progress=False)
    name = next(iter(task.columns))
    other = task_of(people(), target="left", metric="f1", drop=[name])
    with pytest.raises(mg.MetricgradError) as caught:
        mg.train_table(other, loss="cross_entropy", out=tmp_path)
    assert f"drop was nothing and is now {name}. Choose" in str(caught.value)
    card = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert card["about"]["options"] == {"target": "left"}
    del card["about"]["options"], card["about"]["columns"]
    (tmp_path / "card.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(mg.MetricgradError, match="other rows, or told something else of the same table"):
        mg.train_table(other, loss="cross_entropy", out=tmp_path)


def test_what_a_kill_left_beside_a_model_is_cleared(task, tmp_path):
    mg.train_table(task, loss="cross_entropy", out=tmp_path, progress=False)
    there = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "training").mkdir()
    for name in ("training/last.ckpt", "training/.lock", "model.safetensors.17.part", "card.json.17.part", "mine.txt"):
        (tmp_path / name).write_text("")
    mg.train_table(task, loss="cross_entropy", out=tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == there | {"mine.txt"}


def test_a_training_that_was_cut_goes_on(task, tmp_path, monkeypatch):
    whole = mg.train_table(task, out=tmp_path / "whole", progress=False)
    steps, step = [], Engine.step

    def counted(self, *batch):
        steps.append(self.current_epoch)
        if len(steps) == cut:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(Engine, "step", counted)
    cut = 5
    with pytest.raises(KeyboardInterrupt):
        mg.train_table(task, out=tmp_path / "cut", progress=False)
    assert not (tmp_path / "cut" / "card.json").exists()
    with pytest.raises(mg.MetricgradError, match="holds no model"):
        mg.load_model(tmp_path / "cut")
    cut, first = None, steps[-1]
    assert first == 2
    again = mg.train_table(task, out=tmp_path / "cut", progress=False)
    assert min(steps[5:]) == 2
    frame = people()
    assert torch.equal(again.scores(frame), whole.scores(frame))
    assert {k: v for k, v in again.card.items() if k != "history"} == {
        k: v for k, v in whole.card.items() if k != "history"
    }


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (grades(), {"target": "grade", "metric": "quadratic_kappa", "classes": ["low", "medium", "high"]}),
        (prices(), {"target": "price", "metric": "mae"}),
    ],
    ids=["grades", "prices"],
)
@pytest.mark.parametrize("loss", [None, "lightgbm"])
def test_every_kind_of_target_by_network_and_trees(frame, options, loss, tmp_path):
    model = mg.train_table(task_of(frame, **options), loss=loss, out=tmp_path, progress=False)
    assert np.isfinite(model.card["test"])
    assert model.card["asked"]["loss"] == (loss or "uniloss")
    again = mg.load_model(tmp_path)
    assert again.predict(frame).tolist() == model.predict(frame).tolist()
    assert again.evaluate([frame]).decided == model.evaluate([frame]).decided


@pytest.mark.parametrize(("metric", "said"), [("kendall", "kendall reads the order of the answers alone"), ("r2", "")])
def test_that_a_metric_reads_the_order_alone_is_said(metric, said):
    task = task_of(prices(), target="price", metric=metric)
    caution = mg.train_table(task, loss="mse", progress=False).card["caution"]
    assert (caution or "").startswith(said)
    assert (caution is None) == (not said)


def test_what_a_comparison_recommends_is_trained_as_it_was_tuned(task, tmp_path):
    like = study(tmp_path / "study")
    model = mg.train_table(task, like=like, progress=False)
    assert model.card["asked"]["loss"] == "cross_entropy"
    assert model.card["asked"]["params"] == {"lr": 0.02, "weight_decay": 1e-3}
    assert model.decision.kind == "threshold"
    assert model.card["why"] == "nothing adds to it"
    assert "saw its table otherwise: it does not say what it was told" in model.card["caution"]
    assert "chose the loss and its parameters on other draws of these rows" in model.card["caution"]
    assert mg.train_table(task, loss="cross_entropy", progress=False).card["caution"] is None
    trees = mg.train_table(
        task, like=study(tmp_path / "study", "lightgbm", params={"num_leaves": 4.0}, decision="none"), progress=False
    )
    assert trees.decision.kind == "identity"
    assert type(trees.model).__name__ == "BoostedTrees"


@pytest.mark.parametrize(
    ("options", "changed", "words"),
    [
        ({"target": "left"}, {}, ""),
        ({"target": "left", "positive": "yes"}, {}, ""),
        ({"target": "left", "drop": ["since", "who"]}, {"drop": ["since"]}, "drop was since, who and is now since."),
        ({"target": "left"}, {"drop": ["income"]}, "drop was nothing and is now income."),
        ({"target": "left"}, {"positive": "no"}, "the classes were no, yes and are now yes, no."),
        ({"target": "left"}, {"time": "since"}, "time was nothing and is now since"),
    ],
)
def test_what_a_comparison_was_told_otherwise_is_named_and_rows_are_no_difference(tmp_path, options, changed, words):
    then = task_of(people(150), target="left", metric="f1")
    like = study(tmp_path / "study", options=options, columns=dict(then.columns))
    caution = mg.train_table(task_of(people(), target="left", metric="f1", **changed), like=like, progress=False).card[
        "caution"
    ]
    assert (f"the comparison was told or saw its table otherwise: {words}" in caution) == bool(words) or not words
    assert ("otherwise" in (caution or "")) == bool(words)


def test_columns_that_a_comparison_saw_otherwise_are_named(task, tmp_path):
    columns = {**task.columns, "age": "category", "height": "number"}
    del columns["city"]
    like = study(tmp_path / "study", options={"target": "left"}, columns=columns)
    caution = mg.train_table(task, like=like, progress=False).card["caution"]
    assert (
        "otherwise: learned from there alone: 'height'; learned from here alone: 'city'; 'age' is category there and "
        "number here"
    ) in caution


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "holds no finished study"),
        (lambda path: path.write_text(path.read_text()[:40]), "is torn"),
        (lambda path: path.write_text("{}"), "is no study of this version"),
        (lambda path: study(path.parent, metric="mcc"), "compares losses by 'mcc', and the metric here is 'f1'"),
        (lambda path: study(path.parent, loss="mine"), "unknown loss 'mine'"),
        (lambda path: study(path.parent, params={"lr": 0.1, "depth": 3.0}), "has no 'depth' to set"),
    ],
    ids=["none", "torn", "empty", "another metric", "a loss of their own", "other parameters"],
)
def test_a_comparison_that_says_nothing_of_use_is_one_sentence(task, tmp_path, spoil, words):
    spoil(study(tmp_path / "study") / "study.json")
    with pytest.raises(mg.MetricgradError, match=words):
        mg.train_table(task, like=tmp_path / "study")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "mse"}, "serves regression problems"),
        ({"loss": "unilos"}, "did you mean"),
        ({"loss": "uniloss", "like": "x"}, "say one of them"),
        ({"decision": "thresh"}, "decision is 'thresh'"),
    ],
)
def test_what_is_asked_for_and_cannot_be_is_one_sentence(task, options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        mg.train_table(task, **options)


def test_a_metric_of_one_s_own(tmp_path):
    own = as_metric(
        lambda labels, targets: (labels == targets).float().mean(), higher_is_better=True, reads="labels", name="own"
    )
    task = task_of(people(), target="left", metric=own)
    model = mg.train_table(task, out=tmp_path, progress=False)
    again = mg.load_model(tmp_path)
    assert isinstance(again.predict_proba(people()), pd.DataFrame)
    with pytest.raises(mg.MetricgradError, match="pass it again"):
        again.evaluate([people()])
    assert mg.load_model(tmp_path, metric=own).evaluate([people()]) == model.evaluate([people()])
    assert mg.train_table(task, out=tmp_path, progress=False).card == model.card


def test_an_average_that_is_recommended_is_trained_and_loaded_again(task, tmp_path):
    like = study(tmp_path / "study", "cross_entropy x3")
    model = mg.train_table(task, like=like, out=tmp_path / "model", progress=False)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "card.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model-3.safetensors",
        "preprocessing.safetensors",
    ]
    again = mg.load_model(tmp_path / "model")
    assert torch.equal(again.scores(people()), model.scores(people()))
    alone = mg.train_table(task, like=study(tmp_path / "study"), progress=False)
    first = model.model.models[0](model.preprocessing.transform(people()))
    torch.testing.assert_close(first, alone.scores(people()))
    (tmp_path / "model" / "model-2.safetensors").unlink()
    with pytest.raises(mg.MetricgradError, match="model-2"):
        mg.load_model(tmp_path / "model")
