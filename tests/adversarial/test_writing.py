"""Disks that are full, folders that are not to be written in: one sentence, and the old file is what it was."""

import errno
import multiprocessing
import os
import resource
import signal
import socket
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import metricgrad as mg
from metricgrad import writing
from metricgrad.comparison.records import Records
from metricgrad.comparison.report import evidence_file
from metricgrad.training.fit import fit
from tests.forked import forked

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def run(out, **more):
    torch.manual_seed(0)
    settings = {"metric": "accuracy", "loss": "cross_entropy", "epochs": 2, "progress": False, "device": "cpu"} | more
    return fit(nn.Linear(4, 3), (X[:40], Y[:40]), (X[40:], Y[40:]), out=out, **settings)


def population(out):
    loss = mg.ALA("accuracy", num_outputs=3)
    return mg.fit_population(
        lambda: nn.Linear(4, 3), (X[:40], Y[:40]), (X[40:], Y[40:]), metric="accuracy", loss=loss, children=2,
        epochs=2, out=out, progress=False,
    )  # fmt: skip


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def learned_policy():
    loss = mg.ALA("accuracy", num_outputs=3, learner="reinforce", warm_up=0)
    for _ in range(4):
        loss.observe(X[:, :3], Y)
    return loss.aligner


WRITERS = {
    "loss": lambda path: mg.UniLoss("f1").save(path),
    "policy": lambda path: learned_policy().save(path),
    "figure": lambda path: writing.write_figure(Figure(), path),
    "history": lambda path: learned_policy().plot(path),
    "text": lambda path: writing.write_text(path, "new"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_bad_place_is_one_sentence(name, tmp_path):
    for path in (tmp_path, tmp_path / "absent" / "file.png", tmp_path / "file.png" / "below"):
        (tmp_path / "file.png").write_text("old")
        with pytest.raises(mg.MetricgradError, match="cannot write") as caught:
            WRITERS[name](path)
        assert "\n" not in str(caught.value)
        assert (tmp_path / "file.png").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.png"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(name, tmp_path, monkeypatch):
    path = tmp_path / "file.png"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(mg.MetricgradError, match="No space left on device; the file that was there is untouched"):
        WRITERS[name](path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def save_network(path):
    mg.AdaLFL(num_outputs=3).save(path)


def limited(folder, told):
    """What is said under the limit, which holds for a process until it ends."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for job, limit in ((save_network, 2000), (run, 3000), (population, 3000), (population, 100)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            job(f"{folder}/{job.__name__}{limit}")
        except mg.MetricgradError as error:
            told.send(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process, in a fork")
def test_a_real_limit_on_the_size_of_files_is_one_sentence(tmp_path):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = forked(limited, tmp_path, theirs)
    process.join()
    assert process.exitcode == 0
    said = [ours.recv() for _ in range(4) if ours.poll()]
    assert len(said) == 4
    assert all(line.startswith("cannot write") and "\n" not in line for line in said)
    assert "File too large" in said[0]
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_leaves_a_file_that_is_appended_to(tmp_path, monkeypatch):
    path = tmp_path / "file"
    assert writing.append(path, b"old") == 3
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(mg.MetricgradError, match="No space left on device; what it holds is whole"):
        writing.append(path, b"new")
    assert path.read_bytes() == b"old"


def test_no_folder_for_evidence_is_one_sentence(tmp_path):
    (tmp_path / "evidence").touch()
    with pytest.raises(mg.MetricgradError, match="evidence' cannot be a folder"):
        evidence_file.keep(tmp_path, "uniloss", {}, {})


def test_a_link_goes_on_to_point_to_its_file(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    writing.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


ENDED = 2**22 + 1  # beyond the largest number a process of Linux has


@pytest.mark.parametrize(
    ("part", "stays"),
    [
        (f"answers.csv.{socket.gethostname()}.{ENDED}.part", False),
        (f"answers.csv.{socket.gethostname()}.1.part", True),  # a process that lives
        (f"answers.csv.elsewhere.{ENDED}.part", True),
        (f"answers.csv.{socket.gethostname()}.{10**30}.part", True),  # no process number of this system
        (f"other.csv.{socket.gethostname()}.{ENDED}.part", True),
        (f"answers.csv.{ENDED}.part", True),
    ],
)
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, part, stays):
    (tmp_path / part).write_text("half")
    writing.write_text(tmp_path / "answers.csv", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"answers.csv", *([part] if stays else [])}


def test_a_figure_takes_the_format_of_its_ending(tmp_path):
    assert writing.write_figure(Figure(), tmp_path / "a.svg").read_text().startswith("<?xml")
    assert writing.write_figure(Figure(), tmp_path / "a").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(mg.MetricgradError, match=r"\.nonsense is none of"):
        writing.write_figure(Figure(), tmp_path / "a.nonsense")


def test_fit_goes_on_after_a_full_disk_to_the_same_weights(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", epochs=3)
    with monkeypatch.context() as patched:
        calls = []
        real = os.fsync

        def third(handle):
            calls.append(handle)
            return full() if len(calls) == 3 else real(handle)

        patched.setattr(os, "fsync", third)
        with pytest.raises(mg.MetricgradError, match="No space left on device"):
            run(tmp_path / "cut", epochs=3)
    again = run(tmp_path / "cut", epochs=3)
    assert torch.equal(again.model.weight, whole.model.weight)
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in again.history] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in whole.history
    ]


def test_an_earlier_run_that_may_not_be_removed_is_one_sentence(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    run(tmp_path)
    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(mg.MetricgradError, match=r"cannot remove .*last\.ckpt', of an earlier run: Permission denied"):
        run(tmp_path, resume=False)


def test_an_error_of_the_person_s_own_files_stays_their_own(tmp_path):
    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise FileNotFoundError(errno.ENOENT, "no picture", "/pictures/1.png")

    with pytest.raises(FileNotFoundError, match="no picture"):
        fit(
            nn.Linear(4, 3), Data(), (X, Y), metric="accuracy", loss="cross_entropy", out=tmp_path / "o", progress=False
        )


def test_a_line_that_could_not_be_added_leaves_the_others(tmp_path, monkeypatch):
    records = Records(tmp_path, {"task": "t", "losses": {}, "spaces": {}})
    line = {"loss": "ce", "role": "candidate", "trial": 0, "valid": 0.5, "seconds": 0.1, "params": {"lr": 0.1}}
    records.add(line)
    before = records.path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(mg.MetricgradError, match="No space left on device"):
            records.add({**line, "trial": 1})
    assert records.path.read_bytes() == before
    assert [r["trial"] for r in records.trials("ce")] == [0]


def test_a_folder_that_cannot_be_synced_leaves_the_new_file_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "answers.csv"
    path.write_text("old")
    monkeypatch.setattr(writing, "_settle", full)
    with pytest.raises(mg.MetricgradError, match="written whole, but its folder cannot be synced: No space left"):
        writing.write_text(path, "new")
    assert [path.read_text(), len(list(tmp_path.iterdir()))] == ["new", 1]
