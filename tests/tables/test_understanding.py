"""What a table is taken for, what is asked for, and what is said first."""

import json

import numpy as np
import pandas as pd
import pytest

import metricgrad as mg
from metricgrad.tables.reading import read_table
from metricgrad.tables.schema import Schema
from metricgrad.tables.target import encode_target
from metricgrad.tables.understanding import understand
from tests.tables.frames import grades, people, prices


def test_columns_by_type_what_is_left_out_and_why(tmp_path):
    frame = people()
    frame.to_csv(tmp_path / "people.csv", index=False)
    for table in (frame, read_table(tmp_path / "people.csv")):
        schema = understand(table, "left", metric="f1")
        types = {column.name: column.type for column in schema.columns}
        assert types == {"age": "number", "income": "number", "city": "category", "member": "boolean", "since": "date"}
        assert schema.target.positive == "yes"
        assert schema.left_out["who"].startswith("identifiers or free text: 200")
        assert schema.left_out["country"] == "it is 'X' in every row"
        city = next(column for column in schema.columns if column.name == "city")
        assert city.levels == ("Oslo", "Rome", "Bonn")  # Lima is rare
        said = schema.describe()
        assert said[0].startswith("200 rows; target 'left': binary, positive is 'yes' (")
        assert "rows with missing values: age (19)" in said


def test_a_schema_is_plain_data(tmp_path):
    for frame, options in (
        (people(), {"target": "left"}),
        (grades(), {"target": "grade"}),
        (prices(), {"target": "price"}),
    ):
        schema = understand(frame, **options)
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(columns=[]), "no columns"),
        (lambda s: s.update(rows="many"), "rows is 'many'"),
        (lambda s: s["columns"].append(s["columns"][0]), "one of them twice"),
        (lambda s: s["columns"][0].update(type="code"), "type is 'code'"),
        (lambda s: s["columns"][0].update(levels=["a"]), "is no number"),
        (lambda s: s["target"].update(classes=["a"]), "has 1 classes"),
        (lambda s: s.pop("target"), "the target"),
        (lambda s: s.update(more=1), "no option 'more'"),
    ],
)
def test_a_schema_that_no_table_gives_is_refused(change, words):
    described = json.loads(json.dumps(understand(people(), "left").to_json()))
    change(described)
    with pytest.raises(mg.MetricgradError, match=words):
        Schema.from_json(described)


@pytest.mark.parametrize(
    ("values", "type", "markers"),
    [
        (["1", "2.5", "-3e2", "?", ""] * 10, "number", ()),
        (["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "unknown"] * 10, "number", ("unknown",)),
        (["001", "002", "003", "010"] * 10, "category", ()),
        (["a", "b", "none"] * 10, "category", ()),
        (["t", "f", None] * 10, "boolean", ()),
        ([True, False] * 15, "boolean", ()),
        (["0", "1"] * 15, "number", ()),
        (["03.12.2020", "25.01.2021 "] * 15, "date", ()),
        (["Dec-2011", "Jan-2012"] * 15, "date", ()),
        (["2021-01-02T03:04:05Z", "2021-01-03T00:00:00+02:00"] * 15, "date", ()),
        (["10-24", "25-39", "40-54"] * 10, "category", ()),
        (pd.to_datetime(["2021-01-02", "2022-01-02"] * 15), "date", ()),
    ],
)
def test_types(values, type, markers):
    frame = pd.DataFrame({"x": values, "y": (["a", "b", "b"] * len(values))[: len(values)]})
    (column,) = understand(frame, "y", positive="a").columns
    assert (column.type, column.markers) == (type, markers)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("n", range(40), "each stands once"),
        ("user_id", [k * k for k in range(40)], "each stands once"),
        ("user_id", [f"u{k}" for k in range(20)] * 2, "its name says identifier"),
        ("n", [f"text number {k}" for k in range(40)], "identifiers or free text"),
        ("n", [None] * 40, "it is empty"),
        ("n", [3.0] * 40, "it is 3 in every row"),
        ("n", ["2020-01-01"] * 40, "in every row"),
        ("n", [np.inf] * 40, "no finite number"),
        ("n", [[1, 2]] * 40, "values of list"),
    ],
)
def test_columns_nothing_is_learned_from(name, values, words):
    frame = pd.DataFrame({name: pd.Series(list(values)), "x": [1, 2] * 20, "y": ["no", "yes", "no", "no"] * 10})
    assert words in understand(frame, "y").left_out[name]


def test_dates_that_can_be_read_in_two_ways_are_asked_about():
    frame = pd.DataFrame({"d": ["03/04/2021", "05/06/2021"] * 15, "x": [1, 2, 3] * 10, "y": ["no", "yes"] * 15})
    with pytest.raises(mg.MetricgradError, match=r"read as %d/%m/%Y and as %m/%d/%Y; .*--drop d"):
        understand(frame, "y")
    frame.loc[0, "d"] = "13/04/2021"
    column = next(column for column in understand(frame, "y").columns if column.name == "d")
    assert column.format == "%d/%m/%Y"


@pytest.mark.parametrize(
    ("frame", "target", "options", "words"),
    [
        (grades(), "grade", {"metric": "quadratic_kappa"}, r"ordered grades.*--classes high,low,medium"),
        (grades(), "grade", {"classes": ["low", "high"]}, r"classes lacks 'medium'"),
        (grades(), "grade", {"classes": ["low", "medium", "hihg"]}, r"did you mean high"),
        (grades(), "grade", {"positive": "high"}, r"has 3 classes"),
        (grades(), "grade", {"metric": "r2"}, r"is no number, and metric 'r2' is of values"),
        (grades(), "x", {"metric": "f1"}, r"different numbers; name a metric of values"),
        (grades(), "x", {"positive": "1"}, r"has 300 classes"),
        (prices(), "price", {"metric": "r2", "positive": "1"}, r"leave positive out"),
        (people(), "city", {"metric": "f1"}, r"f1"),
        (people(), "left", {"positive": "Yes"}, r"did you mean yes"),
        (people(), "member", {"metric": "ndcg"}, r"--group query"),
        (people(), "left", {"metric": "bleu"}, r"of sentences"),
        (people(), "gone", {}, r"no such column"),
        (people(), "country", {}, r"'X' in every row"),
        (people(), "who", {}, r"200 different texts"),
        (people(), "left", {"group": "left"}, r"is target and group|is group and target"),
        (people(), "left", {"split": "city", "time": "since"}, r"leave one out"),
        (people(), "left", {"drop": "age"}, r"drop=\['age'\]"),
        (people(), "left", {"drop": ["age", "incom"]}, r"did you mean income"),
        (people(), "left", {"drop": ["age", "income", "city", "member", "since"]}, r"no column is left"),
        (people(10), "left", {}, r"10 rows; give 20 or more"),
    ],
)
def test_what_cannot_be_known_is_asked_for(frame, target, options, words):
    with pytest.raises(mg.MetricgradError, match=words) as told:
        understand(frame, target, **options)
    assert "\n" not in str(told.value)


def test_a_positive_class_that_is_not_clear_is_asked_for():
    frame = people().replace({"left": {"yes": "good", "no": "bad"}})
    with pytest.raises(mg.MetricgradError, match="--positive good"):
        understand(frame, "left")
    target = understand(frame, "left", positive="bad").target
    assert target.classes == ("good", "bad")
    assert encode_target(target, frame["left"]).tolist() == (frame["left"] == "bad").astype(int).tolist()
    assert understand(frame, "left", classes=["bad", "good"]).target.positive == "good"


def test_classes_that_differ_by_capitals_alone_are_named():
    frame = pd.DataFrame({"x": np.arange(60) % 7, "y": ["yes", "Yes", "no"] * 20})
    alike = "'Yes', 'yes' differ by capitals or spaces alone: where they are one, write them alike"
    assert f"classes {alike}" in understand(frame, "y", metric="macro_f1").notes
    with pytest.raises(mg.MetricgradError) as told:
        understand(frame, "y", metric="f1")
    assert str(told.value).startswith(f"target 'y' has 3 classes (Yes, no, yes); {alike}: ")
    assert "take macro_f1" in str(told.value)
    assert not any("alike" in note for note in understand(grades(), "grade", metric="macro_f1").notes)


def test_words_that_mean_missing_in_one_column_and_a_level_in_another_are_named():
    frame = people().assign(city=["Oslo", "Rome", "-"] + ["Oslo", "-"] * 98 + ["Rome"])
    frame["height"] = [f"{k % 50 + 150}" for k in range(190)] + ["-", "unknown", "k.A.", "n.b.", "."] * 2
    notes = understand(frame, "left").notes
    assert "'height' is numbers; what is none is read as missing there: '-', '.', 'k.A.', 'n.b.', 'unknown'" in notes
    assert any(note.startswith("'-', missing among numbers, is a level of its own in 'city'; ") for note in notes)
    assert sum("a level of its own" in note for note in notes) == 1


def test_grades_of_numbers_have_their_order_and_words_the_one_given():
    frame = grades()
    assert understand(frame, "grade", metric="quadratic_kappa", classes=["low", "medium", "high"]).target.classes == (
        "low", "medium", "high",
    )  # fmt: skip
    numbers = frame.assign(grade=frame["grade"].map({"low": 2, "medium": 9, "high": 10}))
    assert understand(numbers, "grade", metric="quadratic_kappa").target.classes == ("2", "9", "10")


def test_a_regression_counts_in_deviations_from_its_mean():
    frame = prices()
    target = understand(frame, "price", metric="mae").target
    said = understand(frame.assign(price=frame["price"] * 1000), "price", metric="mae").describe()[0]
    low, median, high = (f"{v:,.0f}" for v in np.quantile(frame["price"] * 1000, [0.25, 0.5, 0.75]))
    assert said == f"200 rows; target 'price': values (regression), median {median}, half of them from {low} to {high}"
    codes = encode_target(target, frame["price"])
    assert codes.mean() == pytest.approx(0, abs=1e-9)
    assert codes.std() == pytest.approx(1)
    with pytest.raises(mg.MetricgradError, match="row 1, which is no number"):
        encode_target(target, pd.Series(["cheap"]))


def test_leaks_copies_and_rows_without_a_target_are_told():
    frame = people()
    frame["outcome"] = np.where(frame["left"] == "yes", 3.0, 1.0)
    frame.loc[:2, "left"] = None
    frame = pd.concat([frame, frame.tail(4)])
    said = "\n".join(understand(frame.drop(columns="who"), "left").describe())
    assert "leak suspected: 'outcome' alone tells the target (AUROC 1.000)" in said
    assert "3 rows have no 'left'" in said
    assert "4 rows are exact copies" in said
    assert "leak" not in "\n".join(understand(people(), "left").notes)


def test_leaks_of_values_and_of_several_classes():
    frame = prices(1000).assign(euros=lambda f: f["price"] / 1.1)
    assert any("'euros' alone" in note for note in understand(frame, "price").notes)
    frame = grades().assign(code=lambda f: f["grade"].map({"low": "l", "medium": "m", "high": "h"}))
    assert [note for note in understand(frame, "grade").notes if "'code' alone" in note]
