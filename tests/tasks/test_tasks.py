"""The built-in tasks: shapes, class rates, seeded draws, parts that do not overlap."""

import gzip
import struct

import numpy as np
import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.tasks.fashion_data import DEBIAN, read_fashion
from metricgrad.tasks.idx import read_idx
from metricgrad.tasks.listing import LISTED
from metricgrad.tasks.registry import get_task, list_tasks
from metricgrad.tasks.split import Splits, split, standardise, thin
from metricgrad.tasks.task import Task

OWN = ("retrieval", "spans", "tokens")  # kinds that have test files of their own
SMALL = [name for name in list_tasks() if get_task(name).kind not in OWN and not name.startswith("fashion")]
needs_fashion = pytest.mark.skipif(not DEBIAN.exists(), reason="dataset-fashion-mnist is not installed")


def rate(part):
    return float((part[1] > 0).float().mean())


@pytest.mark.parametrize("name", SMALL)
def test_model_fits_data_and_draws_follow_the_seed(name):
    task = get_task(name)
    parts, again, other = task.load(0), task.load(0), task.load(1)
    assert all(torch.equal(a, b) for p, q in zip(parts, again, strict=True) for a, b in zip(p, q, strict=True))
    assert not torch.equal(parts[0][0], other[0][0])
    torch.manual_seed(0)
    scores = task.model()(parts[2][0])
    if task.kind == "keypoints":
        assert scores.shape == (*parts[2][1].shape[:2], *parts[2][0].shape[2:])
    else:
        assert scores.shape == ((len(parts[2][1]), 10) if task.kind == "multiclass" else parts[2][1].shape)
    assert abs(float(parts[0][0].mean())) < 1e-3
    assert len(parts[2][1]) / sum(len(p[1]) for p in parts) == pytest.approx(0.2, abs=0.01)


def test_parts_do_not_overlap():
    x, y = torch.arange(100.0)[:, None], torch.arange(100) % 4
    for stratify in (False, True):
        parts = split(x, y, 3, stratify=stratify)
        assert sorted(torch.cat([p[0] for p in parts]).flatten().tolist()) == list(range(100))


def test_noise_is_in_the_training_labels_alone():
    clean, noisy = get_task("digits").load(5), get_task("digits-noisy").load(5)
    assert torch.equal(clean[0][0], noisy[0][0])
    assert float((clean[0][1] != noisy[0][1]).float().mean()) == pytest.approx(0.4, abs=1e-3)
    assert torch.equal(clean[1][1], noisy[1][1])
    assert torch.equal(clean[2][1], noisy[2][1])


def test_rare_parts_hold_three_percent_positives():
    for part in get_task("digits-rare").load(2):
        assert rate(part) == pytest.approx(0.03, abs=0.002)


@needs_fashion
def test_fashion_parts():
    parts = get_task("fashion-rare").load(0)
    assert [tuple(p[0].shape) for p in parts] == [(12_000, 784), (4_000, 784), (4_000, 784)]
    assert all(rate(p) == pytest.approx(0.02, abs=1e-6) for p in parts)
    assert get_task("fashion").load(0)[0][1].unique().tolist() == list(range(10))


def test_fashion_missing_says_how_to_get_it(tmp_path):
    with pytest.raises(mg.MetricgradError, match="apt-get install dataset-fashion-mnist"):
        read_fashion(str(tmp_path))


def test_idx_round_trip_and_torn_file(tmp_path):
    raw = b"\0\0\x08\x02" + struct.pack(">II", 2, 3) + bytes(range(6))
    (tmp_path / "a.gz").write_bytes(gzip.compress(raw))
    assert np.array_equal(read_idx(tmp_path / "a.gz"), np.arange(6, dtype=np.uint8).reshape(2, 3))
    (tmp_path / "b").write_bytes(b"\0\0\x0c\x01" + struct.pack(">Ii", 1, -7))
    assert read_idx(tmp_path / "b").tolist() == [-7]
    for torn in (raw[:-1], raw[:6], b"PK\3\4", b""):
        (tmp_path / "c").write_bytes(torn)
        with pytest.raises(mg.MetricgradError, match=r"torn|no IDX"):
            read_idx(tmp_path / "c")
    (tmp_path / "d.gz").write_bytes(gzip.compress(raw)[:-9])
    with pytest.raises(mg.MetricgradError, match="cannot be read"):
        read_idx(tmp_path / "d.gz")


def test_standardise_uses_training_statistics_and_survives_constants():
    train = torch.tensor([[0.0, 7.0], [2.0, 7.0]])
    parts = standardise(Splits(*((x, torch.zeros(len(x))) for x in (train, train + 1, train))))
    assert parts.train[0][:, 1].tolist() == [0.0, 0.0]
    assert float(parts.train[0][:, 0].mean()) == 0
    assert float(parts.valid[0][0, 0]) == pytest.approx(0.0, abs=1e-6)


def test_thin_gives_the_rate():
    positive = torch.arange(1000) < 100
    kept = thin(positive, positive, 0.02, seed=0)
    assert float(positive[kept].float().mean()) == pytest.approx(0.02, abs=1e-3)
    assert len(kept.unique()) == len(kept)


def test_a_person_s_own_task():
    x = np.random.default_rng(0).normal(size=(20, 3))
    part = (x, x[:, 0])
    task = Task("mine", model=lambda: nn.Linear(3, 1), train=part, valid=part, test=part)
    assert (task.kind, task.standard, task.redraws) == ("regression", "mse", False)
    assert task.load(1) == task.load(2)
    binary = (x, x[:, 0] > 0)
    assert Task("b", model=task.model, train=binary, valid=binary, test=binary).kind == "binary"
    several = (x, x > 0)
    assert Task("m", model=task.model, train=several, valid=several, test=several).kind == "multilabel"
    with pytest.raises(mg.MetricgradError, match=r"has 2 of train, valid and test"):
        Task("mine", model=task.model, train=part, valid=part)
    with pytest.raises(mg.MetricgradError, match="no metric of its own"):
        task.judged_by()


@pytest.mark.parametrize("name", list_tasks())
def test_what_is_listed_of_a_task_is_what_it_says_itself(name):
    task = get_task(name)
    shown = task.kind, task.metric, task.standard, task.epochs, task.batch_size, task.summary
    assert (task.name, *shown) == (name, *LISTED[name][1:])


def test_unknown_task_names_a_close_one():
    with pytest.raises(mg.MetricgradError, match="did you mean digits"):
        get_task("digit")
