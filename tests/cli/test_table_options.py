"""``metricgrad compare FILE``: what was understood is said on stderr; what is missing is one line."""

import json

import pytest

from tests.tables.frames import people


@pytest.fixture
def run(typed, monkeypatch, tmp_path):
    people(60).to_csv(tmp_path / "churn.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return typed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["churn.csv"], "Pass --target with one of who, age, income, city, member, since, country, left"),
        (["churn.csv", "--target", "left"], "Pass --metric"),
        (["churn.csv", "--target", "lft", "--metric", "f1"], "did you mean left?"),
        (["churn.csv", "--target", "left", "--metric", "f1", "--drop", "age,incme"], "did you mean income or"),
        (["churn.csv", "--target", "city", "--metric", "quadratic_kappa"], "--classes"),
        (["chrun.csv", "--target", "left", "--metric", "f1"], "there are churn.csv"),
        (["digits", "--target", "left"], "--target goes with a table"),
        (["churn.xlsx", "--target", "left"], "'churn.xlsx' ends in neither .csv nor .parquet; name a file that does"),
        (["churn.csv", "--target", "left", "--metric", "sklearn.metrics.f1_score"], "written sklearn.metrics:f1_score"),
        (["churn.csv", "--target", "left", "--metric", "sklearn.metrics:f1_scor"], "Did you mean f1_score"),
        (["churn.csv", "--target", "left", "--metric", "sklearn:__version__"], "names no function, but of type str"),
        (
            ["churn.csv", "--target", "left", "--metric", "r2", "--positive", "yes"],
            "and metric 'r2' is of values",
        ),
    ],
)
def test_what_is_missing_is_one_line(run, arguments, words):
    code, out, err = run("compare", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_is_compared_and_what_was_understood_is_said_first(run):
    options = ["--losses", "cross_entropy", "--trials", "1", "--seeds", "1", "--drop", "since,income", "--json"]
    code, out, err = run("compare", "churn.csv", "--target", "left", "--metric", "f1", *options)
    assert code == 0
    assert json.loads(out)["task"] == "churn"
    assert err.startswith("60 rows; target 'left': binary, positive is 'yes'")
    assert "left out: 'who'" in err


def test_auto_on_a_file_has_trees_a_plan_and_a_recommendation(run):
    pytest.importorskip("lightgbm", reason="the opponent of tables")
    options = ["--losses", "auto", "--budget", "1s", "--trials", "1", "--seeds", "1", "--no-controls"]
    arguments = ["compare", "churn.csv", "--target", "left", "--metric", "f1", "--drop", "since,income", *options]
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    answer = json.loads(out)
    rungs = [row["rung"] for row in answer["ladder"]]
    assert [rungs[0], *rungs[-3:]] == ["cross_entropy", "+ the metric", "lightgbm", "+ average of 3"]
    assert set(answer["recommendation"]) == {"loss", "decision", "why"}
    code, shown, _ = run(*arguments)
    assert code == 0
    assert "what each rung adds" in shown
    assert f"recommended: {answer['recommendation']['loss']}" in shown
    assert "a budget of 1 s came to 0 draws" in shown
