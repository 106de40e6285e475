"""The CIFAR benchmark, whole, on a tiny copy of the data."""

import importlib
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    common = importlib.import_module("common")
    monkeypatch.setattr(common, "HERE", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    return importlib.import_module("cifar")


def test_every_loss_trains_and_a_second_call_repeats_nothing(cifar, folder, tmp_path, monkeypatch, capsys):
    words = f"--source {folder} --classes 3 --model resnet20 --rates 0.05 --steps 12 --offline 1 --batch 16 --seeds 1"
    words += " --meta-lr 1e-3 --device cpu"
    cifar.main(words.split())
    record = json.loads((tmp_path / "results" / "cifar.json").read_text())
    errors = {cell.split("/")[-2]: value["mean"] for cell, value in record["errors"].items()}
    assert set(errors) == set(cifar.LOSSES)
    assert errors["cross_entropy"] < 20
    assert all(0 <= error <= 100 for error in errors.values())
    monkeypatch.setattr(cifar, "train_one", None)
    cifar.main(words.split())
    assert json.loads((tmp_path / "results" / "cifar.json").read_text()) == record


def test_crops_and_flips_move_pixels_and_keep_what_they_are(cifar):
    ramp = torch.arange(1, 257, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(8, -1, -1, 3)
    scale = torch.zeros(3), torch.ones(3)
    images = cifar.Images((ramp, torch.arange(8)), scale, 64, 0, augment=True)
    inputs, targets = images.draw()
    assert inputs.shape == (8, 3, 16, 16)
    assert targets.shape == (8,)
    seen = set()
    for image in inputs[:, 0]:
        inner = image[4:-4, 4:-4]
        step = float(inner[0, 1] - inner[0, 0])
        assert step in (1.0, -1.0)
        assert bool((inner[1:] - inner[:-1] == 16).all())
        seen.add((step, float(inner[0, 0])))
    assert len(seen) > 4


def test_choosing_scores_no_test_row(cifar, folder):
    o = cifar.options(f"--source {folder} --classes 3 --batch 16 --device cpu --choose".split())
    train, test = cifar.read_images(o.source, 3)
    tried, valid, both, judged = cifar.parts_of(o, train, test, 0)
    assert (len(tried.targets), len(valid.targets), len(both.targets), len(judged.targets)) == (48, 6, 54, 6)
    rows = torch.cat([part.inputs.flatten(1) for part in (tried, valid, judged)])
    assert len(rows.unique(dim=0)) == 60
    assert torch.equal(rows.sort(0).values, train[0].flatten(1).sort(0).values)
