"""Classes are the values their column holds: labels come back in its type, and numbers are told by value."""

import numpy as np
import pandas as pd
import pytest
import torch

import metricgrad as mg
from metricgrad.decisions.threshold import Threshold
from metricgrad.tables.answers import answer_file
from metricgrad.tables.class_labels import label_codes
from metricgrad.tables.model import TableModel
from metricgrad.tables.model_folder import load_table_model, save_table_model
from metricgrad.tables.target import encode_target
from metricgrad.tables.task import task_of_table
from metricgrad.tables.understanding import understand

X = np.arange(60) % 7 + 0.5


def untrained(table, metric="f1", **options):
    task = task_of_table(table, target="y", metric=metric, **options)
    torch.manual_seed(0)
    return TableModel(task.preprocessing(0), task.model().eval(), Threshold(0.0), mg.as_metric(task.metric))


@pytest.mark.parametrize("dtype", ["bool", "boolean", "bool[pyarrow]", "object"])
def test_a_target_of_booleans_is_two_classes(dtype, tmp_path):
    frame = pd.DataFrame({"x": X, "y": pd.Series([True, False, False] * 20, dtype=dtype)})
    frame.to_parquet(tmp_path / "x.parquet")
    for table in (frame, tmp_path / "x.parquet"):
        task = mg.task_of_table(table, target="y", metric="f1")
        assert task.schema.target.classes == ("False", "True")
        assert task.schema.target.counts == (40, 20)
        assert encode_target(task.schema.target, frame["y"]).tolist() == [1, 0, 0] * 20
    assert mg.task_of_table(frame, target="y", metric="f1", positive=False).schema.target.positive == "False"


@pytest.mark.parametrize(
    ("values", "dtype", "kind"),
    [
        ([1, 0, 0], "int64", "i"),
        ([1, 0, 0], "Int64", "i"),
        ([1, 0, 0], "object", "i"),
        ([1, 0, 0], "category", "i"),
        ([1, 0, 0], "float64", "f"),
        ([1.5, 0.5, 0.5], "float32", "f"),
        ([True, False, False], "bool", "b"),
        ([True, False, False], "boolean", "b"),
        (["1", "0", "0"], "object", "O"),
        (["yes", "no", "no"], "str", "O"),
    ],
)
def test_labels_come_back_in_the_column_s_own_type(values, dtype, kind, tmp_path):
    frame = pd.DataFrame({"x": X, "y": pd.Series(values * 20, dtype=dtype)})
    model = untrained(frame, positive=values[0])
    save_table_model(model, tmp_path / "model")
    for one in (model, load_table_model(tmp_path / "model")):
        answers = one.predict(frame)
        assert answers.dtype.kind == kind
        assert set(answers.tolist()) <= set(values)
        right = (answers == frame["y"].to_numpy()).mean()
        assert right == pytest.approx(one.evaluate(frame, "accuracy").decided)
        assert right > 0.1
        assert set(one.predict_proba(frame).columns) == set(values)


@pytest.mark.parametrize(
    "texts", [["1", "0"], ["1.0", "0.0"], ["True", "False"], ["true", "false"], ["007", "001"], ["b", "a"], ["2", "x"]]
)
def test_labels_of_a_csv_are_as_pandas_reads_it_but_for_codes(texts, tmp_path):
    lines = [f"{x},{text}" for x, text in zip(X, texts * 30, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["x,y", *lines]))
    model = untrained(tmp_path / "x.csv", positive=texts[0])
    read = pd.read_csv(tmp_path / "x.csv", dtype={"y": str} if texts[0] == "007" else None)
    assert set(model.predict(read).tolist()) <= set(read["y"])
    assert model.predict(read).dtype.kind == (read["y"].to_numpy().dtype.kind if read["y"].dtype != "str" else "O")
    assert model.evaluate(read, "accuracy").decided == pytest.approx((model.predict(read) == read["y"]).mean())
    answer_file(model, tmp_path / "x.csv", tmp_path / "answers.csv")
    assert set(pd.read_csv(tmp_path / "answers.csv", dtype=str)["label"]) <= set(texts)  # as they were written
    answer_file(model, tmp_path / "x.csv", tmp_path / "answers.parquet")
    assert pd.read_parquet(tmp_path / "answers.parquet")["label"].tolist() == model.predict(read).tolist()


@pytest.mark.parametrize(("trained", "judged"), [(["1", "0"], ["1.0", "0.0"]), (["1.0", "0.0"], ["1", "0"])])
def test_numbers_are_told_by_value(trained, judged, tmp_path):
    model = untrained(pd.DataFrame({"x": X, "y": trained * 30}), positive=1.0)
    assert model.schema.target.positive == trained[0]
    values = {
        model.evaluate(pd.DataFrame({"x": X, "y": column})).decided
        for column in (trained * 30, judged * 30, [1, 0] * 30, [1.0, 0.0] * 30)
    }
    assert len(values) == 1
    with pytest.raises(mg.MetricgradError, match=r"'2' in row 1, which is none of 0"):
        model.evaluate(pd.DataFrame({"x": X, "y": ["2", "0"] * 30}))


def test_one_number_written_in_two_ways_is_one_class():
    target = understand(pd.DataFrame({"x": X, "y": ["1", "0", "1.0"] * 20}), "y", metric="f1").target
    assert (target.classes, target.counts) == (("0", "1"), (20, 40))
    assert label_codes(pd.Series(["1.0", "00", None]), target.classes).tolist() == [1, 0, -1]
