"""What is said while a study goes on: a table in a terminal, else a line a run; at Ctrl-C, what is kept."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metricgrad.comparison.study_display import StudyDisplay
from tests.comparison.test_study import run

TASK = f"{Path(__file__).parent / 'test_study.py'}:tiny"


def record(**more):
    return {"loss": "focal", "valid": 0.5, **more}


def test_without_a_terminal_it_is_a_line_a_run(tmp_path, capsys):
    records = [record(trial=0, seconds=2.0)]
    with StudyDisplay("churn", tmp_path, higher_is_better=True) as display:
        display.watch(records)
        display.expect(4)
        for new in (record(trial=1, seconds=1.5), record(seed=0, valid=None, seconds=None), record(seed=1, seconds=1)):
            display.begin("focal", "whatever")
            records.append(new)
            display.look()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "focal, trial 2: valid 0.5000, 1.5 s; 2 to go, about 1 s",
        "focal, seed 0: failed; 1 to go, about 1 s",
        "focal, seed 1: valid 0.5000, 1.0 s",
    ]


def test_a_study_says_a_line_a_run_and_none_of_those_that_were_there(tmp_path, capsys):
    from metricgrad.comparison.study import compare
    from tests.comparison.test_study import tiny

    run(tmp_path, trials=1, seeds=1, losses=("cross_entropy",))
    assert capsys.readouterr().err == ""
    compare(tiny(), losses=("cross_entropy",), trials=1, seeds=2, out=tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cross_entropy, seed 1: valid 0.")
    assert "to go" not in line


def test_the_table_counts_what_is_recorded(tmp_path):
    display = StudyDisplay("churn", tmp_path, higher_is_better=False, shown=False)
    display.watch([record(trial=0), record(seed=0, valid=0.25), record(seed=1, valid=None)])
    display.expect(7)
    display.begin("[b]own", "trial 1")
    table = display.table()
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["focal", "\\[b]own"], ["1", "0"], ["2", "0"], ["0.2500", ""], ["", "trial 1"]]
    assert table.title == "churn: 3 runs; 4 to go"


def test_in_a_terminal_the_table_is_live_and_a_signal_ends_all_workers_and_says_what_is_kept(tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "metricgrad", "compare", TASK, "--losses", "cross_entropy,focal", "--trials", "2",
         "--seeds", "500", "--jobs", "2", "--out", str(tmp_path / "study")],
        stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while said.count(b"to go, about") < 4:
        said += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(ours, 4096):
            said += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    assert process.wait() == 130, said.decode()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    text = said.decode()
    assert "final runs" in text
    assert "\x1b[" in text  # written over
    last = text.strip().splitlines()[-1]
    kept = (tmp_path / "study" / "results.jsonl").read_text().count("\n")
    told = re.search(
        r"metricgrad: stopped; (\d+) runs are kept in (.*), and the same command goes on from there$", last
    )
    assert told[2] == str(tmp_path / "study")
    assert 0 <= kept - int(told[1]) <= 1  # the other worker may have written one more
    assert "Traceback" not in text


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_other_ends_are_left_as_they_are(tmp_path, error):
    with pytest.raises(error), StudyDisplay("churn", tmp_path, higher_is_better=True, shown=False):
        raise error
