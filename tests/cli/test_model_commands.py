"""``metricgrad train``, ``predict`` and ``evaluate``: answers alone on stdout, one line where something is wrong."""

import json

import pytest

from metricgrad.tables.model_folder import save_table_model
from tests.tables.frames import people
from tests.tables.test_model import trained


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_table_model(trained("binary")[1], folder / "model")
    people().to_csv(folder / "told.csv", index=False)
    people(40).to_csv(folder / "new.csv", index=False)
    people(40).drop(columns="left").to_csv(folder / "untold.csv", index=False)
    people(40).rename(columns={"age": "Age"}).to_csv(folder / "renamed.csv", index=False)
    return folder


@pytest.fixture
def run(typed, monkeypatch, place):
    monkeypatch.chdir(place)
    return typed


def test_a_table_is_trained_on(run):
    arguments = ["train", "told.csv", "--target", "left", "--metric", "f1", "--loss", "cross_entropy", "--out", "made"]
    code, out, err = run(*arguments, "--json")
    assert code == 0
    assert err.startswith("200 rows; target 'left': binary, positive is 'yes'")
    found = json.loads(out)
    assert found.keys() == {
        "model", "loss", "decision", "metric", "valid", "valid_undecided", "test", "test_undecided",
            "caution",
    }  # fmt: skip
    code, out, _ = run(*arguments)
    assert out.splitlines()[0].startswith(f"f1 {found['test']:.4f} on rows held back")
    assert out.splitlines()[1].startswith("model: made (cross_entropy, decision ")
    code, out, err = run("evaluate", "made", "told.csv", "--json")
    assert json.loads(out)["value"] > 0.7
    assert err == (
        "note: the model was trained on rows of told.csv, so that this value flatters it; judge by other rows\n"
    )
    people(60, seed=3).to_csv("others.csv", index=False)
    assert run("evaluate", "made", "others.csv")[2] == ""


def test_what_the_comparison_was_told_need_not_be_said_again(run, place):
    people().assign(closed_on=lambda f: f["left"] == "yes").to_csv("leaky.csv", index=False)
    told = ["--target", "left", "--metric", "f1", "--drop", "closed_on,since", "--positive", "no"]
    limits = ["--losses", "cross_entropy", "--trials", "1", "--seeds", "1", "--out", "study"]
    assert run("compare", "leaky.csv", *told, *limits)[0] == 0
    code, out, err = run("train", "leaky.csv", "--like", "study", "--out", "alike")
    assert code == 0
    taken = "--target left --positive no --drop closed_on,since --metric f1"
    assert err.startswith(f"note: taken from study: {taken}\n200 rows; target 'left': binary, positive is 'no'")
    assert "left out: 'closed_on', as asked for" in err
    assert "otherwise" not in out

    people().to_csv("later.csv", index=False)  # the column is not there any more
    code, out, err = run("train", "later.csv", "--like", "study", "--drop", "who", "--out", "other")
    assert code == 0
    assert err.startswith("note: taken from study: --target left --positive no --metric f1\n")
    assert "otherwise: drop was closed_on, since and is now who" in out

    code, _, err = run("compare", "leaky.csv", *told[:4], *limits, "--positive", "no")
    assert code == 2
    assert "holds another study: drop was closed_on, since and is now nothing. Choose another out" in err


def test_rows_weigh(run, place):
    people().assign(w=lambda frame: 1.0 + (frame["city"] == "Rome")).to_csv(place / "weighed.csv", index=False)
    options = ["--target", "left", "--metric", "f1", "--loss", "cross_entropy", "--weight", "w", "--out", "weighed"]
    code, _, err = run("train", "weighed.csv", *options)
    assert code == 0
    assert (
        "rows weigh from 1 to 2 by 'w', in training, in the metric, in the decision and in what a report shows" in err
    )
    values = [
        json.loads(run("evaluate", *given, "--json")[1])["value"]
        for given in (["weighed", "weighed.csv"], ["weighed", "weighed.csv", "--weight", "income"])
    ]
    assert values[0] != values[1]
    assert run("evaluate", "weighed", "weighed.csv")[1].endswith(", rows weighed by 'w'\n")
    code, _, err = run("evaluate", "weighed", "told.csv")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "no column 'w'" in err


def test_answers_are_alone_on_stdout(run):
    code, out, err = run("predict", "model", "untold.csv", "--id", "who")
    assert code == 0
    assert out.splitlines()[0] == "who,label,p_no,p_yes"
    assert len(out.splitlines()) == 41
    assert err.splitlines()[-1] == "40 rows"
    assert err.startswith("note: values that training did not have, or too rarely to learn from: 'city' in 1 row")


def test_a_model_is_judged(run):
    code, out, _ = run("evaluate", "model", "new.csv")
    assert code == 0
    assert out.startswith("f1 0.")
    code, out, _ = run("evaluate", "model", "new.csv", "--metric", "accuracy", "--json")
    assert code == 0
    assert json.loads(out).keys() == {"metric", "value", "undecided", "weight"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "told.csv", "--metric", "f1", "--out", "x"], "Pass --target with one of who, age"),
        (["train", "told.csv", "--target", "left", "--out", "x"], "Pass --metric"),
        (["train", "told.csv", "--target", "left", "--metric", "f1"], "Missing option '--out'"),
        (["predict", ".", "new.csv"], "holds no model"),
        (["predict", "model", "gone.csv"], "there is no file 'gone.csv'"),
        (["predict", "model", "new.csv", "--id", "whom"], "did you mean who?"),
        (["evaluate", "model", "untold.csv"], "no column 'left'"),
        (["evaluate", "model", "new.csv", "--metric", "f2"], "f2"),
        (["evaluate", "model", "new.csv", "--metric", "r2"], "metric 'r2' is of values, and target 'left' is a class"),
        (["predict", "model", "renamed.csv"], "lacks 'age', which the model was trained on; add what is missing, or"),
        (["predict", "model", "renamed.csv"], "did you mean Age?"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_value_that_is_undefined_is_said(run, place):
    lines = (place / "new.csv").read_text().splitlines()
    column = lines[0].split(",").index("left")
    (place / "one.csv").write_text(
        "\n".join([lines[0], *(li for li in lines[1:] if li.split(",")[column] == "no")]) + "\n"
    )
    code, out, _ = run("evaluate", "model", "one.csv", "--metric", "auroc", "--json")
    assert code == 0
    assert json.loads(out) == {"metric": "auroc", "value": None, "undecided": None, "weight": None}
