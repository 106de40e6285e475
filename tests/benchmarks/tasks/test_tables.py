"""The reader of the development tables, and the tasks on them."""

import numpy as np
import pytest
import torch
from benchmarks.tasks.tables.data import read_table

from metricgrad.errors import MetricgradError
from metricgrad.tasks.by_path import task_at

TASK = "benchmarks/tasks/tables/task.py"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rows = [f"{i},{'M' if i % 3 else 'F'},{'' if i == 4 else i * i},{i % 2 * 7}" for i in range(60)]
    (tmp_path / "phoneme.csv").write_text("\n".join(["a,sex,b,target", *rows]) + "\n")
    monkeypatch.setenv("METRICGRAD_TABLES", str(tmp_path))
    return tmp_path


def test_numbers_words_and_what_is_missing(folder):
    features, classes = read_table("phoneme")
    assert features.shape == (60, 4)
    assert features[:, 0].tolist() == list(range(60))
    others = np.array([i * i for i in range(60) if i != 4])
    assert features[4, 1] == np.median(others)
    assert features[:3, 2:].tolist() == [[1, 0], [0, 1], [0, 1]]
    assert classes.tolist() == [0, 1] * 30


def test_what_is_not_there_is_said(folder):
    with pytest.raises(MetricgradError, match=r"there is no table at .*magic.csv': set METRICGRAD_TABLES"):
        read_table("magic")
    (folder / "magic.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MetricgradError, match="has no column target"):
        read_table("magic")


def test_a_task_is_found_by_its_name_and_splits_by_its_seed(folder):
    task = task_at(f"{TASK}:phoneme_f1")
    train, valid, test = task.load(0)
    assert [len(part[1]) for part in (train, valid, test)] == [36, 12, 12]
    assert not torch.equal(train[0], task.load(1)[0][0])
    assert task.kind == "binary"
    linear = task_at(f"{TASK}:phoneme_f1_linear")
    assert len(list(linear.model().parameters())) == 2
    assert linear.lr.high > task.lr.high
    assert list(task.learners) == ["lightgbm"]


def test_there_are_24_pairs_of_table_and_metric():
    from tasks.tables.task import TASKS

    assert len(TASKS) == 48
    assert all(task.judged_by().higher_is_better for task in TASKS.values())
