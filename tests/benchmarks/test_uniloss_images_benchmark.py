"""UniLoss's benchmark on images, whole, on a tiny copy of the data, cut off and gone on with."""

import importlib
import json

import pytest

from tests.benchmarks.test_cifar_benchmark import ROOT


@pytest.fixture
def images(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    common = importlib.import_module("common")
    monkeypatch.setattr(common, "HERE", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    return importlib.import_module("uniloss_images")


def _words(folder, *more):
    return f"--source {folder} --classes 3 --rates 0.03 --epochs 2 --batch 16 --seeds 2 --device cpu".split() + list(
        more
    )


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_was_cut_off_ends_like_one_that_was_not(images, folder, tmp_path, monkeypatch):
    rows = ("uniloss_paper", "cross_entropy")
    images.main(_words(folder, "--bfloat16", "--losses", *rows))
    record = json.loads((tmp_path / "results" / "uniloss_images.json").read_text())
    assert set(record["errors"]) == {f"cifar3/{row}" for row in rows}
    for found in record["errors"].values():
        assert len(found["ends"]) == 2
        rates = [float(rate) for rate in found["rates"]]
        assert rates[0] < found["rate"] < rates[-1]

    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.setattr(images.common, "HERE", again)
    monkeypatch.setattr(images.common, "RESULTS", again / "results")
    whole = images.Run.epoch

    def once(run):
        if run.errors:
            raise KeyboardInterrupt
        whole(run)

    monkeypatch.setattr(images.Run, "epoch", once)
    with pytest.raises(KeyboardInterrupt):
        images.main(_words(folder, "--bfloat16", "--losses", *rows))
    monkeypatch.setattr(images.Run, "epoch", whole)
    images.main(_words(folder, "--bfloat16", "--losses", *rows))
    assert json.loads((again / "results" / "uniloss_images.json").read_text())["errors"] == record["errors"]


def test_no_epoch_begins_after_the_limit(images, folder, tmp_path):
    images.main(_words(folder, "--losses", "cross_entropy", "--limit", "0"))
    assert json.loads((tmp_path / "results" / "uniloss_images.json").read_text())["errors"] == {}
