"""Real processes that are told to end, or killed, while they train and answer."""

import functools
import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from metricgrad.__main__ import main
from metricgrad.tables.model_folder import save_table_model
from tests.forked import forked
from tests.tables.frames import people
from tests.tables.test_model import trained


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    save_table_model(trained("binary")[1], folder / "model")
    people().to_csv(folder / "few.csv", index=False)
    pd.concat([people()] * 2000).to_csv(folder / "many.csv", index=False)
    return folder


def wait_for(files, before, alive):
    """Until there is a new one of these files."""
    while not {*files()} - before:
        assert alive()
        time.sleep(0.005)


def command(place, arguments):
    """The command line, in a process forked from this one."""
    os.chdir(place)
    os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr, sys.argv = os.fdopen(2, "w", buffering=1), ["metricgrad", *arguments]
    main()


TRAIN = ["train", "few.csv", "--target", "left", "--metric", "f1", "--loss", "cross_entropy", "--out", "trained"]
PREDICT = ["predict", "model", "many.csv", "--out", "answers.csv"]


def test_train_says_that_it_goes_on(place):
    process = forked(command, place, TRAIN)
    wait_for(lambda: place.glob("trained/training/last.ckpt"), set(), process.is_alive)
    process.terminate()
    process.join()
    assert process.exitcode == 143
    said = (place / "stderr").read_text()
    last = said.strip().splitlines()[-1]
    assert last == "metricgrad: stopped; whole epochs are kept in trained, and the same command goes on from there"
    assert "Traceback" not in said


def test_predict_leaves_the_earlier_answers_and_nothing_of_one_that_was_killed(place):
    (place / "answers.csv").write_text("earlier")
    parts = functools.partial(place.glob, "answers.csv.*.part")
    process = forked(command, place, PREDICT)
    wait_for(parts, set(), process.is_alive)
    process.kill()
    process.join()
    (left,) = parts()
    whole = [sys.executable, "-m", "metricgrad", *PREDICT]
    process = subprocess.Popen(whole, cwd=place, stderr=subprocess.PIPE, text=True)
    wait_for(parts, {left}, lambda: process.poll() is None)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 143
    told = "stopped; what was there is as it was, and the same command begins anew"
    assert said == f"metricgrad: {told}\n"
    assert [path.read_text() for path in place.glob("answers.csv*")] == ["earlier"]
