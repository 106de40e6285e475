"""The page and its twin: what is in them, nothing of it read as markup, the same whenever they are made."""

import json
import re

import pytest

import metricgrad as mg
from metricgrad.comparison.report import evidence_file
from metricgrad.comparison.report.page import write_report
from tests.comparison.report.studies import NASTY, evidence, row, run, rung, write
from tests.comparison.test_study import run as compared
from tests.comparison.test_study import tiny

BUNDLE = re.compile(r"<script>/\*\*\n\* plotly\.js.*?</script>", re.S)


def pages(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    ours, count = BUNDLE.subn("", html)
    assert count == 1
    return ours, (folder / "report.md").read_text(encoding="utf-8")


def figures_of(html):
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)[1])


def test_a_study_ends_with_its_report_which_is_made_again_from_the_folder(tmp_path):
    table = compared(tmp_path, seeds=2)
    html, text = pages(tmp_path)
    assert "Too early to say: 2 seeds, and 6 are needed for a verdict" in html
    assert {"intervals", "training", "calibration"} <= figures_of(html).keys()
    for loss in ("cross_entropy", "Own", "margin"):
        assert html.count(loss) > 2
        assert loss in text
    (tmp_path / "report.html").unlink()
    again = write_report(tmp_path)
    assert again.table.to_dict() == table.to_dict()
    assert pages(tmp_path) == (html, text)


def test_everything_that_was_asked_for_is_there(tmp_path):
    twice = "not on the ladder: focal: easy items weigh less"
    write(tmp_path, notes=["focal failed in 1 of 6 seeds; in seed 3: diverged", twice])
    write_report(tmp_path)
    html, text = pages(tmp_path)
    assert "not on the ladder" not in html + text  # it is among what was not tried
    for words in (
        "Train with uniloss and decide by threshold", "Better than cross_entropy", "The ladder", "+ the metric",
        "Confusion table", "Precision and recall", "Calibration", "The metric over training", "uniloss: 0.70",
        "Shapes of learned losses", "The curriculum of uniloss", "60 rows; target &#39;left&#39;", "What was not tried",
        "focal failed in 1 of 6 seeds", "metricgrad compare churn.csv --target left --metric f1", "00c0ffee", "0 to 5",
    ):  # fmt: skip
        assert words in html, words
    for words in ("# Train with uniloss", "| + the metric |", "focal failed", "metricgrad compare churn.csv"):
        assert words in text, words
    assert (tmp_path / "report.html").stat().st_size < 6_000_000


def test_what_is_weighted_is_said(tmp_path):
    write(tmp_path)
    kept, points = evidence(), {"of": "values", "weighted": True, "points": [[0.1, 0.2], [0.3, 0.2]]}
    seen = {**kept["mismatch"], "weighted": True}
    evidence_file.keep(tmp_path, "uniloss", {"lr": 0.01}, {**kept, "predictions": points, "mismatch": seen})
    evidence_file.keep(tmp_path, "cross_entropy", {"lr": 0.01}, {**kept, "mismatch": seen})
    write_report(tmp_path)
    html, _ = pages(tmp_path)
    assert "Rows count as much as they weigh: dots are rows drawn as often as they weigh." in html
    assert "Blocks of 64 validation rows, drawn as often as they weigh: a loss" in html


def test_nothing_is_fetched_and_nothing_of_a_name_is_markup(tmp_path):
    write(tmp_path, best=NASTY, classes=("no", NASTY), task=NASTY, metric=NASTY, notes=[NASTY])
    write_report(tmp_path)
    html, text = pages(tmp_path)
    assert "<script>alert" not in html
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert not re.search(r"https?://", html)
    assert "<script>" not in text
    assert all(line.count(" | ") in (7, 8) for line in text.splitlines() if line.startswith("| \\<script"))
    labels = figures_of(html)["intervals"]["layout"]["yaxis"]["ticktext"]
    assert labels[1].startswith("&lt;script&gt;")


def test_no_run_that_ended_and_no_evidence_still_give_a_page(tmp_path):
    failed = {"test": None, "test_undecided": None, "valid": None, "decision": None, "seconds": None}
    nothing = dict.fromkeys(("mean", "low", "high", "difference", "difference_low", "difference_high", "p", "valid"))
    nothing |= dict.fromkeys(("mean_undecided", "low_undecided", "high_undecided", "seconds"))
    write(
        tmp_path,
        runs=[run("cross_entropy", 0, 0.8), {**run("uniloss", 0, 0.8), **failed, "failed": "diverged: NaN"}],
        summary=[row("cross_entropy", 0.8, "baseline"), {**row("uniloss", 0, "diverged in 1 of 1 seeds"), **nothing}],
        ladder=[rung("cross_entropy", "cross_entropy", True, None)],
        recommendation={"loss": "cross_entropy", "decision": "none", "why": "it is the only one"},
    )
    for file in (tmp_path / "evidence").iterdir():
        file.unlink()
    write_report(tmp_path)
    html, text = pages(tmp_path)
    assert "diverged in 1 of 1 seeds" in html
    assert "The metric over training" not in html
    assert "diverged" in text


def test_evidence_of_a_run_at_other_parameters_is_not_shown(tmp_path):
    from metricgrad.comparison.report import evidence_file

    write(tmp_path)
    evidence_file.keep(tmp_path, "uniloss", {"lr": 0.5}, evidence())
    write_report(tmp_path)
    assert "Confusion table" not in pages(tmp_path)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no finished study"),
        ("{", "is torn"),
        ("[]", "no study of this version"),
        ('{"table": {"schema": 1}, "about": {}}', "no study of this version"),
    ],
)
def test_what_is_no_study_is_one_sentence(tmp_path, text, words):
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(mg.MetricgradError, match=words):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.pop("margin"),
        lambda table: table["summary"][1].pop("mean"),
        lambda table: table["summary"][0].update(verdict="better"),
        lambda table: table["runs"][0].update(loss="gone"),
        lambda table: table["ladder"][0].update(added="much"),
        lambda table: table.update(schema=1),
    ],
)
def test_a_table_without_a_part_is_refused(tmp_path, spoil):
    write(tmp_path)
    path = tmp_path / "study.json"
    found = json.loads(path.read_text())
    spoil(found["table"])
    path.write_text(json.dumps(found))
    with pytest.raises(mg.MetricgradError, match="of this version"):
        write_report(tmp_path)


def test_evidence_that_is_something_else_is_refused(tmp_path):
    write(tmp_path)
    path = next((tmp_path / "evidence").iterdir())
    path.write_text(path.read_text().replace('"history": [', '"history": ["x", '))
    with pytest.raises(mg.MetricgradError, match="no evidence of a run of this version; delete it"):
        write_report(tmp_path)


def test_a_task_says_what_it_is():
    task = tiny(summary="toy rows")
    assert task.describe() == [
        "multiclass; toy rows",
        "parts: 90 to train on, 30 to choose by and 30 to judge by; drawn anew with every seed",
    ]


def test_a_loss_that_is_not_the_usual_one_is_not_kept(tmp_path):
    control = row("ala_static", 0.70, "undecided", role="control", more_seeds=120, p=None)
    losses = [row("cross_entropy", 0.70, "worse"), row("focal", 0.72, "baseline"), control]
    told = {"loss": "focal", "decision": "none", "why": "focal gains +0.0200"}
    write(tmp_path, best="focal", summary=losses, recommendation=told)
    write_report(tmp_path)
    assert "Train with focal: no other loss was shown to be worth it" in pages(tmp_path)[0]
