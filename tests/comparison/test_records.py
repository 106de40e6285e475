"""The results file under torn lines, two processes and other studies."""

import json

import pytest

import metricgrad as mg
from metricgrad.comparison.records import Records, locked

CONFIG = {"task": "digits", "epochs": 3, "spaces": {"ce": {"lr": 1}}}


def trial(number, loss="ce"):
    both = {"valid": 0.5, "valid_undecided": 0.4, "decision": "offsets"}
    return {"loss": loss, "role": "candidate", "trial": number, **both, "seconds": 0.1, "params": {"lr": 0.1}}


def test_records_come_back_in_order(tmp_path):
    records = Records(tmp_path, CONFIG)
    for number in (1, 0):
        records.add(trial(number))
    both = {"valid": 0.1, "valid_undecided": None, "test": 0.2, "test_undecided": 0.2, "decision": None}
    seed = {"loss": "ce", "role": "candidate", "seed": 0, **both, "seconds": 1.0, "params": {}}
    records.add(seed)
    again = Records(tmp_path, CONFIG)
    assert [r["trial"] for r in again.trials("ce")] == [0, 1]
    assert again.run("ce", 0, {}) == seed
    assert again.run("ce", 0, {"lr": 1.0}) is None
    assert again.run("ce", 1, {}) is None
    assert again.trials("other") == []


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_taken_off_and_the_next_line_is_whole(tmp_path, cut):
    records = Records(tmp_path, CONFIG)
    records.add(trial(0))
    records.add(trial(1))
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    mended = Records(tmp_path, CONFIG)
    assert [r["trial"] for r in mended.trials("ce")] == [0]
    mended.add(trial(1))
    assert [json.loads(line)["trial"] for line in path.read_text().splitlines()] == [0, 1]


def test_garbage_in_the_middle_is_set_aside_and_named_by_its_line(tmp_path):
    lines = [json.dumps(trial(0)), "nonsense", json.dumps(trial(2))]
    (tmp_path / "results.jsonl").write_text("\n".join([*lines, ""]))
    with pytest.raises(mg.MetricgradError, match=r"config\.json, .* is missing"):
        Records(tmp_path, CONFIG)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.warns(UserWarning, match=r"1 lines are no records \(line 2: .*set aside in results\.jsonl\.rejected"):
        records = Records(tmp_path, CONFIG)
    assert [r["trial"] for r in records.trials("ce")] == [0, 2]
    assert (tmp_path / "results.jsonl").read_text().splitlines() == [lines[0], lines[2]]
    assert (tmp_path / "results.jsonl.rejected").read_text() == "nonsense\n"


def test_another_study_is_refused_and_a_further_loss_is_welcome(tmp_path):
    Records(tmp_path, CONFIG)
    with pytest.raises(mg.MetricgradError, match="epochs was 3 and is now 4"):
        Records(tmp_path, {**CONFIG, "epochs": 4})
    with pytest.raises(mg.MetricgradError, match="spaces was"):
        Records(tmp_path, {**CONFIG, "spaces": {"ce": {"lr": 2}}})
    Records(tmp_path, {**CONFIG, "spaces": {"new": {"lr": 5}}})
    with pytest.raises(mg.MetricgradError, match="spaces was"):
        Records(tmp_path, {**CONFIG, "spaces": {"new": {"lr": 6}}})
    Records(tmp_path, CONFIG)


def test_a_study_of_an_earlier_schema_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(mg.MetricgradError, match=r"holds a study of schema 1, .* with and without a decision"):
        Records(tmp_path, {**CONFIG, "schema": 2})
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", ".lock"}


def test_one_process_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(mg.MetricgradError, match="in use by another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
