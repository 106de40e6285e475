"""A model as a folder: frames in, answers out, the same before and after; and nothing taken on trust."""

import hashlib
import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.fuzz.spoiling import dumped, spoil_bytes, spoil_json

import metricgrad as mg
from metricgrad.decisions.offsets import Offsets
from metricgrad.decisions.threshold import Threshold
from metricgrad.tables.boosting import fit_trees
from metricgrad.tables.model import TableModel
from metricgrad.tables.model_folder import load_table_model, save_table_model
from metricgrad.tables.preprocessing import Layout
from metricgrad.tables.task import task_of_table
from metricgrad.training.fit import fit
from tests.tables.frames import grades, people, prices

TABLES = {
    "binary": (people(), {"target": "left", "metric": "f1"}),
    "multiclass": (grades(), {"target": "grade", "metric": "quadratic_kappa", "classes": ["low", "medium", "high"]}),
    "regression": (prices(), {"target": "price", "metric": "mae"}),
}


def trained(kind, trees=False):
    frame, options = TABLES[kind]
    task = task_of_table(frame, **options)
    train, valid, _ = task.load(0)
    if trees:
        given = {"layout": Layout.of(task.schema), "target": task.schema.target}
        result = fit_trees(train, valid, metric=task.judged_by(), **given)
    else:
        torch.manual_seed(0)
        options = {"metric": task.judged_by(), "loss": task.standard, "lr": 3e-3, "epochs": 10, "device": "cpu"}
        result = fit(task.model(), train, valid, progress=False, **options)
    return frame, TableModel(task.preprocessing(0), result.model, result.decision, mg.as_metric(task.metric))


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("kind", list(TABLES))
def test_a_folder_answers_as_the_model_did(tmp_path, kind, trees):
    frame, model = trained(kind, trees)
    again = load_table_model(save_table_model(model, tmp_path / "model"))
    assert torch.equal(again.scores(frame), model.scores(frame))
    assert again.predict(frame).tolist() == model.predict(frame).tolist()
    target = model.schema.target
    shuffled = frame[frame.columns[::-1]].drop(columns=target.name).sample(frac=1, random_state=0)
    assert again.predict(shuffled).tolist() == pd.Series(model.predict(frame))[shuffled.index].tolist()
    if kind == "regression":
        assert np.corrcoef(again.predict(frame), frame["price"])[0, 1] > 0.8
        assert again.predict(frame).mean() == pytest.approx(500, abs=60)
        with pytest.raises(mg.MetricgradError, match="no probability"):
            again.predict_proba(frame)
        error = float(np.abs(again.predict(frame) - frame["price"]).mean())
        assert again.evaluate([frame]).decided == pytest.approx(error, rel=1e-5)
        return
    probabilities = again.predict_proba(frame)
    assert list(probabilities.columns) == list(target.classes)
    assert np.allclose(probabilities.sum(axis=1), 1)
    right = (again.predict(frame) == frame[target.name]).mean()
    assert right > 0.7
    assert again.evaluate([frame[:50], frame[50:]], mg.as_metric("accuracy")).decided == pytest.approx(right, abs=1e-6)
    assert again.evaluate(frame, "accuracy").decided == pytest.approx(right, abs=1e-6)
    with pytest.raises(mg.MetricgradError, match="the table is a str; pass a DataFrame"):
        again.predict("table.csv")


def test_the_decision_says_the_label_and_not_the_probability():
    frame, model = trained("binary")
    strict = TableModel(model.preprocessing, model.model, Threshold(100.0), model.metric)
    assert set(strict.predict(frame)) == {"no"}
    assert (strict.predict_proba(frame)["yes"] > 0.5).any()


def test_rows_without_a_target_are_not_judged():
    frame, model = trained("binary")
    gaps = frame.assign(left=[None, *frame["left"][1:]])
    assert model.evaluate([gaps]).decided == pytest.approx(model.evaluate([frame[1:]]).decided)
    for given, words in (
        (frame.drop(columns="left"), "no column 'left'"),
        (frame.assign(left=None), "no row has a 'left'"),
        (gaps.assign(left=[None, None, "maybe", *frame["left"][3:]]), "'maybe' in row 3"),
    ):
        with pytest.raises(mg.MetricgradError, match=words):
            model.evaluate([given])


def test_a_metric_of_one_s_own_is_passed_again(tmp_path):
    frame, model = trained("binary")
    own = mg.as_metric(
        lambda labels, targets: float((labels == targets).float().mean()),
        higher_is_better=True,
        reads="labels",
        name="own",
    )
    save_table_model(TableModel(model.preprocessing, model.model, model.decision, own), tmp_path / "model")
    again = load_table_model(tmp_path / "model")
    assert len(again.predict(frame)) == len(frame)
    with pytest.raises(mg.MetricgradError, match="pass it again"):
        again.evaluate([frame])
    assert load_table_model(tmp_path / "model", metric=own).evaluate([frame]).decided > 0.5


def test_a_model_is_not_written_over_another(tmp_path):
    _, model = trained("binary")
    save_table_model(model, tmp_path)
    with pytest.raises(mg.MetricgradError, match="holds a model already"):
        save_table_model(model, tmp_path)


def test_a_folder_that_is_none_or_was_changed_is_refused(tmp_path):
    with pytest.raises(mg.MetricgradError, match="holds no model"):
        load_table_model(tmp_path)
    _, model = trained("binary")
    _, other = trained("multiclass")
    save_table_model(model, tmp_path / "a")
    save_table_model(other, tmp_path / "b")
    shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "a")
    with pytest.raises(mg.MetricgradError, match=r"model\.safetensors' is not the file"):
        load_table_model(tmp_path / "a")
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    card["files"]["model.safetensors"] = _sum(tmp_path / "b" / "model.safetensors")
    (tmp_path / "a" / "card.json").write_text(json.dumps(card))
    with pytest.raises(mg.MetricgradError, match="not of the columns and classes"):
        load_table_model(tmp_path / "a")
    save_table_model(
        TableModel(model.preprocessing, model.model, Offsets([0.0, 1.0, 2.0]), model.metric), tmp_path / "c"
    )
    with pytest.raises(mg.MetricgradError, match=r"card\.json"):
        load_table_model(tmp_path / "c")


@pytest.mark.parametrize("trees", [False, True])
def test_spoiled_folders_are_taken_or_refused_and_nothing_else(tmp_path, trees):
    frame, model = trained("binary", trees)
    place = save_table_model(model, tmp_path / "sound")
    rng, taken, told = random.Random(0), 0, []
    for number in range(120):
        spoiled = tmp_path / f"spoiled{number}"
        shutil.copytree(place, spoiled)
        path = rng.choice(sorted(spoiled.iterdir()))
        card = json.loads((place / "card.json").read_text())
        if path.name == "card.json" and rng.random() < 0.8:
            path.write_text(dumped(spoil_json(card, rng), rng))
        else:
            path.write_bytes(spoil_bytes(path.read_bytes(), rng))
            card["files"] = {name: _sum(spoiled / name) for name in card["files"]}
            if path.name != "card.json":
                (spoiled / "card.json").write_text(json.dumps(card))
        try:
            load_table_model(spoiled).predict(frame)
            taken += 1
        except mg.MetricgradError as error:
            told.append(str(error))
    assert taken + len(told) == 120
    assert not [words for words in told if "\n" in words]
    assert len(told) > 20


def _share_right(labels, targets):
    return float((labels == targets).float().mean())


def _sum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
