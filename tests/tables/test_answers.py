"""Answers for files: the same in chunks, named by a row or an identifier, whole or not at all."""

import subprocess
import sys

import pandas as pd
import pytest

import metricgrad as mg
from metricgrad.tables.answers import answer_file
from metricgrad.tables.model import TableModel
from metricgrad.tables.model_folder import save_table_model
from tests.tables.frames import people
from tests.tables.test_model import trained


@pytest.fixture(scope="module")
def model():
    return trained("binary")[1]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_chunks_answer_as_the_whole(tmp_path, model, ending):
    frame = people()
    path, out = tmp_path / "people.csv", tmp_path / f"answers.{ending}"
    frame.to_csv(path, index=False)
    assert answer_file(model, path, out, rows=70) == 200
    found = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert list(found.columns) == ["row", "label", "p_no", "p_yes"]
    assert found["row"].tolist() == [*range(1, 201)]
    assert found["label"].tolist() == model.predict(frame).tolist()
    assert found["p_yes"].tolist() == pytest.approx(model.predict_proba(frame)["yes"].tolist(), abs=1e-6)


def test_rows_are_named_by_a_column(tmp_path, model, capsys):
    people(30).to_csv(tmp_path / "people.csv", index=False)
    answer_file(model, tmp_path / "people.csv", id="who")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "who,label,p_no,p_yes"
    assert lines[1].startswith("p-00000,")
    assert len(lines) == 31


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_of_the_table_are_kept_beside_the_answers(tmp_path, model, ending):
    frame = people(30)
    frame.to_csv(tmp_path / "people.csv", index=False)
    answer_file(model, tmp_path / "people.csv", tmp_path / f"out.{ending}", id="who", keep=["left", "age"], rows=7)
    found = pd.read_csv(tmp_path / "out.csv") if ending == "csv" else pd.read_parquet(tmp_path / "out.parquet")
    assert list(found.columns) == ["who", "label", "p_no", "p_yes", "left", "age"]
    assert found["left"].tolist() == frame["left"].tolist()


def test_values_have_no_probabilities(tmp_path):
    frame, model = trained("regression")
    frame.to_parquet(tmp_path / "prices.parquet")
    answer_file(model, tmp_path / "prices.parquet", tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == ["row", "value"]
    assert found["value"].tolist() == pytest.approx(model.predict(frame).tolist(), rel=1e-6)


def test_answers_of_which_the_metric_reads_the_order_alone_are_scores(tmp_path):
    frame, model = trained("regression")
    ranks = TableModel(model.preprocessing, model.model, model.decision, mg.as_metric("spearman"))
    frame.to_csv(tmp_path / "prices.csv", index=False)
    said = []
    answer_file(ranks, tmp_path / "prices.csv", tmp_path / "out.csv", rows=70, say=said.append)
    assert list(pd.read_csv(tmp_path / "out.csv").columns) == ["row", "score"]
    assert said == [
        "spearman reads the order of the answers alone: they are scores to sort by, and no values of 'price'"
    ]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_no_rows_has_answers_of_none(tmp_path, model, ending, capsys):
    frame = people()[:0]
    path, out = tmp_path / f"none.{ending}", tmp_path / f"answers.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    assert answer_file(model, path, out) == 0
    found = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert (list(found.columns), len(found)) == (["row", "label", "p_no", "p_yes"], 0)
    assert answer_file(model, path, id="who") == 0
    assert capsys.readouterr().out == "who,label,p_no,p_yes\n"
    assert model.predict(frame).tolist() == []


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda f: f.assign(age=[*[1] * 150, "old", *[1] * 49]), {}, "'old' in row 151"),
        (lambda f: f.drop(columns="age"), {}, "lacks 'age'"),
        (lambda f: f, {"id": "whoo"}, "did you mean who"),
        (lambda f: f.assign(label=1), {"id": "label"}, "so is a column of the answers"),
        (lambda f: f.assign(label=1), {"keep": ["label"]}, "keep is 'label', and so is a column of the answers"),
        (lambda f: f, {"id": "who", "keep": ["who"]}, "keep is 'who', and so is a column of the answers"),
        (lambda f: f, {"keep": ["aeg"]}, "keep is 'aeg'.* did you mean age"),
        (
            lambda f: f.assign(p_left=1),
            {"keep": ["p_left"]},
            "keep is 'p_left', which reads as the probability of a class",
        ),
        (lambda f: f, {"out": "x.xlsx"}, "ends in .csv or .parquet"),
    ],
)
def test_what_cannot_be_answered_writes_nothing(tmp_path, model, change, options, words):
    change(people()).to_csv(tmp_path / "people.csv", index=False)
    out = tmp_path / options.pop("out", "out.csv")
    with pytest.raises(mg.MetricgradError, match=words):
        answer_file(model, tmp_path / "people.csv", out, rows=70, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.csv"]


def test_nothing_that_trains_is_imported_for_answers(tmp_path, model):
    save_table_model(model, tmp_path / "model")
    people(30).to_csv(tmp_path / "people.csv", index=False)
    program = (
        "import sys; from metricgrad.cli.predict import predict; predict('model', 'people.csv', 'out.csv'); "
        "print(sorted({'lightning', 'torchmetrics', 'sklearn', 'lightgbm'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert len(pd.read_csv(tmp_path / "out.csv")) == 30


def test_labels_are_those_of_the_decision(tmp_path, model):
    from metricgrad.decisions.threshold import Threshold

    strict = TableModel(model.preprocessing, model.model, Threshold(100.0), model.metric)
    people().to_csv(tmp_path / "people.csv", index=False)
    answer_file(strict, tmp_path / "people.csv", tmp_path / "out.csv")
    assert set(pd.read_csv(tmp_path / "out.csv")["label"]) == {"no"}


def test_what_training_did_not_have_is_said(tmp_path, model):
    frame = people()
    said = []
    frame.to_csv(tmp_path / "people.csv", index=False)
    answer_file(model, tmp_path / "people.csv", tmp_path / "out.csv", rows=70, say=said.append)
    assert said == ["values that training did not have, or too rarely to learn from: 'city' in 1 row"]

    frame.loc[[3, 90, 150], "city"] = "Kyiv"
    frame.loc[[4, 199], "income"] = None
    frame.loc[[5, 6, 100], "since"] = None
    frame.loc[3, "age"] = None  # as in training
    frame.to_csv(tmp_path / "people.csv", index=False)
    said.clear()
    answer_file(model, tmp_path / "people.csv", tmp_path / "out.csv", rows=70, say=said.append)
    assert said == [
        "values that training did not have, or too rarely to learn from: 'city' in 4 rows",
        "rows without a value where training had one in every row: 'since' in 3 rows, 'income' in 2 rows",
    ]
