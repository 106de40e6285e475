"""A part of `make fuzz`: calls of every public entry point with inputs sound and unsound."""

import importlib
from pathlib import Path

import pytest
import torch

import metricgrad as mg

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CALLS = {
    "UniLoss": 60, "losses of the registry": 30, "losses by name": 30, "Loss(form, aligner)": 30, "metric": 60,
    "metric.over": 15, "as_metric": 30, "infer_refactoring": 20, "functional": 40, "AdaLFL, attached": 8,
    "ALA, attached": 8, "observe": 10, "prepare": 8, "offline_start": 4, "ReLoss.fit": 6, "save and load_loss": 8,
    "mismatch": 10, "diagnose": 8, "record_scores": 8, "fit": 3, "fit_population": 1, "compare": 1,
}  # fmt: skip


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("fuzz.calls")


def test_every_entry_point_is_called(fuzz):
    assert set(CALLS) == set(fuzz.ENTRIES)


@pytest.mark.parametrize("entry", CALLS)
def test_calls_end_in_a_value_or_in_one_sentence(fuzz, entry):
    found = fuzz.attack(entry, 10**6, CALLS[entry])
    assert found["faults"] == {}
    assert sum(found["outcomes"].values()) == CALLS[entry]


def test_a_call_that_breaks_what_must_hold_is_a_fault(fuzz, monkeypatch):
    def breaks(draws):
        draws.batch(["one score"], trouble=0.0, context=False).scores.zero_()
        return "value"

    monkeypatch.setitem(fuzz.ENTRIES, "functional", (breaks, 1.0))
    assert set(fuzz.attack("functional", 0, 2)["faults"]) == {"changed what it was handed"}


@pytest.mark.parametrize("name", ["groups", "mask", "sample_weight"])
def test_feedback_by_hand_is_of_scores_and_targets_alone(name):
    scores, targets = torch.randn(12), torch.arange(12) % 2
    with pytest.raises(mg.MetricgradError, match=f"observe takes no '{name}', only valid_scores, valid_targets"):
        mg.ALA("ndcg").observe(scores, targets, **{name: torch.ones(12)})
