"""The benchmark of clean validation rows, whole, on made-up digits and four steps."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def study(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    common = importlib.import_module("common")
    monkeypatch.setattr(common, "HERE", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    found = importlib.import_module("clean_validation")
    for name, value in (("SEEDS", 2), ("AT", (2, 4)), ("DRAWS", (100,))):
        monkeypatch.setattr(found, name, value)
    return found


def _part(count, seed):
    targets = torch.arange(count) % 10
    noise = torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(targets, 10) * 9 + noise, targets


def _clean(seed):
    return _part(400, seed), _part(300, seed + 1), _part(100, seed + 2)


def _made_up(module, spoil):
    return module.Regime(_clean, lambda: nn.Linear(10, 10), spoil, 1 / 3)


def test_every_row_is_scored_and_a_second_call_trains_nothing(study, tmp_path, monkeypatch, capsys):
    made_up = {name: _made_up(study, study.any_label) for name in study.NAMES}
    monkeypatch.setattr(study, "regimes", lambda data: made_up)
    monkeypatch.setattr(sys, "argv", ["clean_validation.py", "--only", "digits-noise"])
    study.main()
    record = json.loads((tmp_path / "results" / "clean_validation.json").read_text())
    rows = record["tables"]["digits-noise"]
    assert list(record["tables"]) == ["digits-noise"]
    assert set(rows) == set(study.ROWS)
    assert rows["AdaLFL"]["adalfl_minus_it"]["mean"] == 0
    assert all(row["accuracy"]["n"] == 2 and row["stop"] in (2, 4) for row in rows.values())
    monkeypatch.setattr(study, "train", None)
    study.main()
    assert json.loads((tmp_path / "results" / "clean_validation.json").read_text()) == record


def test_rates_are_added_while_the_best_is_at_an_edge(study, monkeypatch):
    def best_at_three(regime, name, lr, parts, seed, steps, score):
        return [0.0, -abs(lr - 3.0)]

    monkeypatch.setattr(study, "train", best_at_three)
    store = study.Store("clean_validation", 2)
    found = study.tuned(store, "made up", _made_up(study, study.any_label), "AdaLFL")
    assert (found["lr"], found["stop"]) == (0.03, 2)
    monkeypatch.setattr(study, "train", lambda *given: [best_at_three(*given)[1]] * 2)
    found = study.tuned(store, "again", _made_up(study, study.any_label), "AdaLFL")
    assert (found["lr"], found["edge"]) == (3.0, False)
    assert {float(key.split("/")[-1]) for key in store.done if key.startswith("again")} == {0.03, 0.1, 0.3, 1, 3, 10}


def test_validation_rows_are_clean_and_both_halves_balanced(study):
    train, valid, test = _made_up(study, study.any_label).parts(5)
    assert [valid[1][half].bincount().tolist() for half in (slice(100), slice(100, None))] == [[10] * 10] * 2
    assert torch.equal(valid[0].argmax(1), valid[1])
    assert torch.equal(test[1], _clean(5)[2][1])
    assert 0.25 < (train[1] != _clean(5)[0][1]).float().mean() < 0.47


def test_labels_are_spoilt_as_they_are_said_to_be(study):
    part = _part(10_000, 0)
    moved = (study.next_label(part, 0)[1] - part[1]) % 10
    assert set(moved.tolist()) == {0, 1}
    assert abs(moved.float().mean() - 0.4) < 0.02
    counts = study.few_of_some(part, 0)[1].bincount()
    assert (counts[0], counts[9]) == (1000, 20)
    assert (counts.diff() < 0).all()


def test_rows_weigh_what_a_step_on_them_alone_lowers_the_clean_objective(study):
    torch.manual_seed(0)
    model, clean = nn.Linear(10, 10).double(), tuple(_part(50, 1))
    inputs, targets = _part(6, 0)
    inputs, clean = inputs.double(), (clean[0].double(), clean[1])
    found = study.row_weights(model, inputs, targets, clean)
    parameters = list(model.parameters())
    objective = torch.autograd.grad(nn.functional.cross_entropy(model(clean[0]), clean[1]), parameters)
    gains = []
    for row in range(6):
        loss = nn.functional.cross_entropy(model(inputs[row : row + 1]), targets[row : row + 1])
        slopes = torch.autograd.grad(loss, parameters)
        gains.append(sum((a * b).sum() for a, b in zip(slopes, objective, strict=True)).clamp(min=0))
    assert torch.allclose(found, torch.stack(gains) / sum(gains))
