"""Real processes that are told to end, or killed, while they train and answer."""

import os
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
    before = {*place.glob(begun)}
    while not {*place.glob(begun)} - before:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    return process


def test_train_says_that_it_goes_on(place):
    command = ["train", "few.csv", "--target", "left", "--metric", "f1", "--loss", "cross_entropy", "--out", "trained"]
    process = started(place, command, "trained/training/last.ckpt")
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 143
    last = said.strip().splitlines()[-1]
    assert last == "metricgrad: stopped; whole epochs are kept in trained, and the same command goes on from there"
    assert "Traceback" not in said


PREDICT = ["predict", "model", "many.csv", "--out", "answers.csv"]


def test_predict_leaves_the_earlier_answers_and_nothing_of_one_that_was_killed(place):
    (place / "answers.csv").write_text("earlier")
    process = started(place, PREDICT, "answers.csv.*.part")
    process.kill()
    process.communicate()
    assert len(list(place.glob("answers.csv.*.part"))) == 1
    process = started(place, PREDICT, "answers.csv.*.part")
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 143
    told = "stopped; what was there is as it was, and the same command begins anew"
    assert said == f"metricgrad: {told}\n"
    assert [path.read_text() for path in place.glob("answers.csv*")] == ["earlier"]
