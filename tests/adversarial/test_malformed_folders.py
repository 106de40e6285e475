"""A part of `make fuzz`: folders that jobs left, spoiled in one file, and jobs that are killed at random moments."""

import errno
import importlib
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.training.fit import fit

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("fuzz.files")


@pytest.mark.parametrize(
    ("kind", "each"),
    [
        ("policies", 100),
        ("studies", 25),
        ("finished runs", 30),
        ("checkpoints", 25),
        ("populations", 25),
        ("networks", 40),
        ("tables", 40),
        ("trees", 40),
    ],
)
def test_spoiled_folders_are_mended_or_refused_in_one_sentence(fuzz, kind, each):
    found = fuzz.attack(kind, each, seed=1)
    assert found["faults"] == {}
    assert found["refused"] > 0
    assert found["taken"] > 0


@pytest.mark.parametrize("job", ["fit", "train"])
def test_killed_at_random_moments_they_end_as_if_undisturbed(fuzz, job):
    found = importlib.import_module("fuzz.kills").attack(job, 2, 0)
    assert found["faults"] == []
    assert found["ended as undisturbed"] == found["reruns"]


X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def run(out):
    torch.manual_seed(0)
    return fit(
        nn.Linear(4, 3), (X[:40], Y[:40]), (X[40:], Y[40:]), metric="accuracy", loss="cross_entropy", epochs=2, out=out,
        progress=False, device="cpu",
    )  # fmt: skip


def test_a_torn_result_is_written_anew_from_the_checkpoint(tmp_path):
    whole = run(tmp_path)
    path = tmp_path / "result.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    again = run(tmp_path)
    assert torch.equal(again.model.weight, whole.model.weight)
    assert json.loads(path.read_text())["history"] == json.loads(text)["history"]


def test_without_the_checkpoint_a_torn_result_is_one_sentence(tmp_path):
    run(tmp_path)
    (tmp_path / "result.json").write_text("{")
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(mg.MetricgradError, match=r"result\.json' cannot be read: .*; pass resume=False"):
        run(tmp_path)


def test_a_torn_config_of_a_study_without_runs_is_written_anew(fuzz, tmp_path):
    fuzz.study_job(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config[:50])
    with pytest.raises(mg.MetricgradError, match=r"config\.json, .* is torn .*put it back, or choose another out"):
        fuzz.study_job(tmp_path)
    (tmp_path / "results.jsonl").unlink()
    fuzz.study_job(tmp_path)
    assert (tmp_path / "config.json").read_text() == config


def test_a_study_whose_lines_were_spoiled_ends_in_the_same_table(fuzz, tmp_path):
    def timeless(table):
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in (*table.summary, *table.runs)]
        return rows, table.notes

    expected = timeless(fuzz.study_job(tmp_path))
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = "null"
    lines[4] = json.dumps({**json.loads(lines[4]), "valid": "0.5"})
    lines[7] = lines[7][:20]
    del lines[2]
    lines.insert(5, lines[4])
    path.write_text("\n".join(lines) + "\n" + lines[0][:30])
    with pytest.warns(UserWarning, match="4 lines are no records"):
        again = fuzz.study_job(tmp_path)
    assert timeless(again) == expected
    assert len(path.read_text().splitlines()) == 10  # two losses, three trials and two seeds


@pytest.mark.parametrize("fails", [1, 2, 4, 7, 10])
def test_a_full_disk_while_a_table_s_model_is_trained_is_one_sentence_and_the_same_call_goes_on(
    tmp_path, monkeypatch, fails
):
    kills = importlib.import_module("benchmarks.fuzz.kills")
    task = mg.task_of_table(kills.table(), target="left", metric="f1")
    task.epochs = 2
    calls, sync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(mg.MetricgradError, match="No space left on device") as told:
        mg.train_table(task, loss="cross_entropy", out=tmp_path / "model", progress=False)
    assert "\n" not in str(told.value)
    monkeypatch.setattr(os, "fsync", sync)
    again = mg.train_table(task, loss="cross_entropy", out=tmp_path / "model", progress=False)
    whole = mg.train_table(task, loss="cross_entropy", progress=False)
    assert torch.equal(again.scores(kills.table()), whole.scores(kills.table()))
    assert mg.load_model(tmp_path / "model").predict(kills.table()).tolist() == again.predict(kills.table()).tolist()
