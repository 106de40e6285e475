"""Real processes that are told to end, or killed, while they train and answer."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from metricgrad.tables.model_folder import save_table_model
from tests.tables.frames import people
from tests.tables.test_model import trained


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    save_table_model(trained("binary")[1], folder / "model")
    people().to_csv(folder / "few.csv", index=False)
    pd.concat([people()] * 2000).to_csv(folder / "many.csv", index=False)
    return folder


def started(place, arguments, begun):
    """A command, as soon as there is a file of this pattern."""
    process = subprocess.Popen(
        [sys.executable, "-m", "metricgrad", *arguments], cwd=place, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not list(place.glob(begun)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train_says_that_it_goes_on(place, sent, code):
    command = ["train", "few.csv", "--target", "left", "--metric", "f1", "--loss", "cross_entropy", "--out", f"m{code}"]
    process = started(place, command, f"m{code}/training/last.ckpt")
    process.send_signal(sent)
    _, said = process.communicate()
    assert process.returncode == code
    last = said.strip().splitlines()[-1]
    assert last == f"metricgrad: stopped; whole epochs are kept in m{code}, and the same command goes on from there"
    assert "Traceback" not in said


PREDICT = ["predict", "model", "many.csv", "--out", "answers.csv"]


def test_predict_leaves_the_earlier_answers(place):
    (place / "answers.csv").write_text("earlier")
    process = started(place, PREDICT, "answers.csv.*.part")
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 143
    told = "stopped; what was there is as it was, and the same command begins anew"
    assert said == f"metricgrad: {told}\n"
    assert [path.read_text() for path in place.glob("answers.csv*")] == ["earlier"]


def test_a_predict_that_was_killed_leaves_nothing_once_another_answered(place):
    process = started(place, PREDICT, "answers.csv.*.part")
    process.kill()
    process.communicate()
    (left,) = place.glob("answers.csv.*.part")
    again = [*PREDICT[:2], "few.csv", *PREDICT[3:]]
    subprocess.run([sys.executable, "-m", "metricgrad", *again], cwd=place, check=True, stderr=subprocess.DEVNULL)
    assert not left.exists()
    assert (place / "answers.csv").read_text().startswith("row,label")
