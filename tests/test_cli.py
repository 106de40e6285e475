"""The command line: one-line errors, lists, JSON alone on stdout."""

import json
import sys
import warnings

import pytest

from metricgrad.cli.main import main, split_losses


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["metricgrad", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digit"], "did you mean digits"),
        (["compare", "digits", "--metric", "macrof1"], "did you mean macro_f1"),
        (["compare", "digits", "--losses", "unilos"], "did you mean uniloss"),
        (["compare", "digits", "--losses", "mse"], "serves regression"),
        (["compare", "digits", "--losses", ""], "--losses is ''; name one at least"),
        (["compare", "digits", "--losses", " , "], "name one at least"),
        (["diagnose", "p.csv", "--metric", "f1", "--losses", ""], "name one at least"),
        (["compare", "digits", "--metric", "AP"], "did you mean average_precision?"),
        (["compare", "digits", "--losses", "CrossEntropyLoss"], "did you mean cross_entropy"),
        (["compare", "digits", "--trials", "0"], "at least 1"),
        (["compare", "digits", "--trials", "many"], "valid integer"),
        (["compare", "digits", "--decision", "best"], "decision is 'best'; expected 'auto', 'none', 'threshold'"),
        (["compare", "digits", "--wrong"], "No such option"),
        (["compare"], "Missing argument"),
        (["comapre"], "No such command"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_lists(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "tasks")
    assert code == 0
    assert "fashion-rare" in out
    assert "…" not in out
    code, out, _ = run(capsys, monkeypatch, "metrics")
    assert code == 0
    assert "macro_f1" in out
    code, out, _ = run(capsys, monkeypatch, "losses")
    assert code == 0
    assert "margin" in out


def test_help_without_arguments(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch)
    assert code == 0
    assert "compare" in out


def test_json_is_alone_on_stdout(capsys, monkeypatch, tmp_path):
    arguments = ["compare", "digits", "--losses", "cross_entropy", "--trials", "1", "--seeds", "1"]
    code, out, err = run(capsys, monkeypatch, *arguments, "--out", str(tmp_path), "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["metric"] == "macro_f1"
    assert [row["verdict"] for row in answer["summary"]] == ["baseline"]
    assert "deprecated" not in err
    code, out, _ = run(capsys, monkeypatch, *arguments, "--out", str(tmp_path))
    assert code == 0
    assert "report.html" in out


def test_split_losses_keeps_parameters_together():
    assert split_losses("a:x=1,y=2, b") == ["a:x=1,y=2", "b"]
    assert split_losses("") == []


def test_an_out_that_is_a_file_is_one_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    command = ["compare", "digits", "--trials", "1", "--seeds", "1", "--out", str(tmp_path / "file")]
    code, _, said = run(capsys, monkeypatch, *command)
    assert code == 2
    assert said.count("\n") == 1
    assert "choose another out" in said


def test_a_warning_is_one_line(capsys, monkeypatch):
    said = []

    def warns(_):
        said.append(warnings.formatwarning("few rows", UserWarning, "file.py", 3))
        return []

    monkeypatch.setattr("metricgrad.cli.main.named_losses", warns)
    run(capsys, monkeypatch, "compare", "digits", "--losses", "focal", "--seeds", "0")
    assert said == ["metricgrad: warning: few rows\n"]
    assert warnings.formatwarning("few rows", UserWarning, "file.py", 3) != said[0]
