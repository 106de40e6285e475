"""Several workers on one study: claims and leases, a worker that dies, a table that is one worker's."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.comparison.records import Records, locked
from metricgrad.comparison.runs import claims as claiming
from metricgrad.comparison.runs import workers
from metricgrad.comparison.runs.claims import Claims
from metricgrad.comparison.runs.workers import helped
from metricgrad.tasks.split import split
from tests.forked import forked


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(90, 4, generator=generator)
    return split(x, (x[:, :3] + torch.randn(90, 3, generator=generator)).argmax(1), seed)


def run(out, **more):
    task = mg.Task(
        "tiny", model=lambda: nn.Linear(4, 3), load=data, metric="macro_f1", epochs=1, batch_size=30, device="cpu"
    )
    settings = {"losses": ["cross_entropy", "focal"], "trials": 4, "seeds": 4, "controls": False}
    return mg.compare(task, out=out, progress=False, **(settings | more))


def timeless(table):
    found = json.loads(json.dumps(table.to_dict()))
    for row in (*found["runs"], *found["summary"], *found["ladder"]):
        del row["seconds"]
    return found


def lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def keys(out):
    return sorted((r["loss"], r.get("trial", -1), r.get("seed", -1)) for r in lines(out))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return out, run(out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")
def test_a_worker_that_passes_over_the_signal_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_PATIENCE", 0.2)

    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "begun").write_text(str(os.getpid()))
        time.sleep(600)

    with helped(deaf, 1):
        while not (tmp_path / "begun").exists() or not (tmp_path / "begun").read_text():
            time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "begun").read_text()), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")
def test_three_workers_share_the_runs_and_end_with_one_worker_s_table(tmp_path, alone):
    table = run(tmp_path, jobs=3)
    assert timeless(table) == timeless(alone[1])
    assert keys(tmp_path) == keys(alone[0])  # each once
    assert list((tmp_path / "claims").glob("[!.]*")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker is a fork")
def test_a_worker_that_is_killed_is_taken_over_and_both_see_the_same_table(tmp_path, alone):
    process, claims = forked(run, tmp_path), tmp_path / "claims"
    while not (claims.exists() and list(claims.glob("[!.]*"))):
        assert process.is_alive()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGSTOP)
    while list(claims.glob("[!.]*")) == []:  # it stopped between two runs: on to the next
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.002)
        os.kill(process.pid, signal.SIGSTOP)
    process.kill()
    process.join()
    assert list(claims.glob("[!.]*"))
    assert timeless(run(tmp_path)) == timeless(alone[1])
    assert keys(tmp_path) == keys(alone[0])


def test_a_run_that_two_trained_is_counted_once(tmp_path):
    config = {"task": "t", "spaces": {}}
    first, second = Records(tmp_path, config), Records(tmp_path, config)
    both = {"valid": 0.5, "valid_undecided": 0.4, "decision": None, "params": {"lr": 0.1}}
    trial = {"loss": "ce", "role": "candidate", "trial": 0, **both}
    final = {"loss": "ce", "role": "candidate", "seed": 0, "test": 0.5, "test_undecided": 0.5, **both}
    for record in (trial, final):
        kept = first.add({**record, "seconds": 1.0})
        assert second.add({**record, "seconds": 2.0}) == kept
    assert [r["seconds"] for r in lines(tmp_path)] == [1.0, 1.0]
    second.add({**final, "seed": 1, "seconds": 1.0})
    with first.held():
        assert len(first) == 3
    (tmp_path / "results.jsonl").open("ab").write(b'{"loss": "ce", "ro')  # whoever wrote it is dead: it holds nothing
    first.add({**final, "seed": 2, "seconds": 1.0})
    assert len(lines(tmp_path)) == 4


def test_a_folder_that_somebody_holds_for_good_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("metricgrad.comparison.records.MOMENT", 0.1)
    with locked(tmp_path), pytest.raises(mg.MetricgradError, match="in use by another process"):
        Records(tmp_path, {"task": "t"})


def claim(folder, *, host=None, process=None, age=0.0):
    claims = Claims(folder, lease=30.0)
    assert claims.take("a run")
    (path,) = claims.folder.glob("a_run*")
    path.write_text(f"{host or socket.gethostname()} {process or os.getppid()}\n")
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return claims, path


@pytest.mark.parametrize(
    ("of", "free"),
    [
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "age": 29.0}, False),
        ({"host": "elsewhere", "age": 31.0}, True),
        ({}, False),  # a process that lives
        ({"process": 2**22 + 1}, True),
        ({"process": 2**22 + 1, "host": "elsewhere"}, False),
        ({"process": os.getpid()}, True),
    ],
)
def test_whose_claim_stands(tmp_path, of, free):
    claims, _ = claim(tmp_path, **of)
    assert claims.take("a run") is free
    assert claims.take("another run")


@pytest.mark.parametrize("left", ["", f"{socket.gethostname()} 1"])  # of 1234; process 1 is always there
def test_a_torn_claim_is_none(tmp_path, left):
    claims, path = claim(tmp_path)
    path.write_text(left)
    assert claims.take("a run")


def test_a_claim_is_kept_fresh_and_given_back(tmp_path):
    claims = Claims(tmp_path, lease=0.2)
    claims.take("a run")
    (path,) = claims.folder.glob("a_run*")
    os.utime(path, (0, 0))
    with claims.kept("a run"):
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not path.exists()
    with pytest.raises(KeyError), claims.kept("a run"):
        raise KeyError
    assert claiming.LEASE > 4


def test_a_claim_that_may_not_be_removed_ends_no_study(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError

    claims = Claims(tmp_path)
    claims.take("a run")
    monkeypatch.setattr(Path, "unlink", denied)
    with claims.kept("a run"):
        pass
    assert claims.take("a run")  # by the same process, which trains one run at a time


def test_what_cannot_be_copied_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(mg.MetricgradError, match="make the same call several times"), helped(lambda: None, 1):
        pass
    with helped(lambda: None, 0):
        pass


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(mg.MetricgradError, match="jobs is 0"):
        run(tmp_path, jobs=0)
