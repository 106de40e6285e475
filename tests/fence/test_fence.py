"""The recorder sees every registered thing, draws the same twice, and tells rounding from another number."""

import torch

import metricgrad as mg
from metricgrad.decisions.kinds import DECISIONS
from metricgrad.grid import ALIGNERS, FORMS
from tests.fence.cells import cells
from tests.fence.records import Record, compare, read, record, write


def test_everything_that_is_registered_has_a_cell():
    names = [name for name, _ in cells()]
    assert len(set(names)) == len(names)
    for metric in mg.list_metrics():
        assert any(name.startswith(f"uniloss {metric},") for name in names), metric
    for kind in DECISIONS:
        assert any(name.startswith(f"decision {kind},") for name in names), kind
    for kind in FORMS:
        assert any(name.startswith(f"cell {kind}-static") for name in names), kind
    for kind in ALIGNERS:
        assert any(name.startswith("cell ") and name.endswith(f"-{kind}, trained") for name in names), kind


def test_the_same_code_gives_the_same_record(tmp_path):
    for word in ("cell classification_family-policy", "uniloss f1, binary", "refactoring mrr", "look_ahead under SGD"):
        first, second = record(word), record(word)
        assert first.tensors, word
        write(tmp_path / "record.safetensors", first)
        report = compare(read(tmp_path / "record.safetensors"), second)
        assert report.equal == list(read(tmp_path / "record.safetensors").tensors)
        assert report.same, report


def test_what_is_refused_is_recorded_with_its_reason():
    found = record("uniloss pck, binary, local, float32")
    (reason,) = found.refused.values()
    assert reason.startswith("MetricgradError: ")
    assert not found.tensors


def test_another_number_is_told_from_rounding_and_from_words():
    x = torch.tensor([1.0, 2.0, float("nan")], dtype=torch.float64)
    before = Record(
        {"equal": x, "rounded": x, "moved": x, "single": x.float(), "half": x.float(), "gone": x, "nan": x},
        {"refused": "A", "reworded": "A", "allowed": "A"},
    )
    after = Record(
        {
            "equal": x.clone(),
            "rounded": x * (1 + 1e-13),
            "moved": x * (1 + 1e-11),
            "single": x.float() * (1 + 2e-7),
            "half": x.half(),
            "nan": torch.zeros(3, dtype=torch.float64),
            "allowed": x,
        },
        {"refused": "A", "reworded": "B"},
    )
    report = compare(before, after)
    assert report.equal == ["equal"]
    assert [name.partition(" ")[0] for name in report.rounded] == ["rounded", "single"]
    assert [name.partition(" ")[0] for name in report.different] == ["moved", "half", "nan", "allowed"]
    assert [name.partition(" ")[0] for name in report.reworded] == ["reworded"]
    assert report.gone == ["gone"]
    assert not report.same
