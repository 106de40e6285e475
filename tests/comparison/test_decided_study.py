"""A study in which decisions pay: values with them and without, and what a study is asked for."""

import json

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.metrics.as_metric import as_metric
from metricgrad.tasks.split import split
from metricgrad.training.fit import fit


def rare(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 4, generator=generator)
    return split(x, ((x[:, 0] + torch.randn(300, generator=generator)) > 1.6).long(), seed, stratify=True)


def shy():
    """Its scores begin so low that nothing is positive by the plain reading."""
    linear = nn.Linear(4, 1)
    nn.init.constant_(linear.bias, -9.0)
    return nn.Sequential(linear, nn.Flatten(0))


def task(model=shy, epochs=3):
    return mg.Task("rare", model=model, load=rare, metric="f1", epochs=epochs, batch_size=30, device="cpu")


def run(out, **more):
    return mg.compare(task(), losses=["cross_entropy"], trials=2, seeds=2, out=out, progress=False, **more)


def lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_every_run_has_both_readings_of_the_same_scores(tmp_path):
    table = run(tmp_path, decision="threshold")
    first = table.runs[0]
    assert first["decision"] == "threshold"
    train, valid, test = rare(0)
    torch.manual_seed(0)
    params = first["params"]
    result = fit(
        task().model(), train, valid, metric="f1", loss="cross_entropy", lr=params["lr"], epochs=3, batch_size=30,
        weight_decay=params["weight_decay"], device="cpu", progress=False, decision="threshold",
    )  # fmt: skip
    assert (first["valid"], first["valid_undecided"]) == (result.valid, result.valid_undecided)
    scores, f1 = result.predict_scores(test), as_metric("f1")
    assert first["test"] == float(f1(scores - result.threshold, test[1]))
    assert first["test_undecided"] == float(f1(scores, test[1]))
    assert first["test"] > first["test_undecided"]
    row = table["cross_entropy"]
    assert row["decisions"] == {"threshold": 2}
    assert row["mean_undecided"] == pytest.approx(sum(r["test_undecided"] for r in table.runs) / 2)
    assert table.to_dict()["schema"] == 2
    shown = str(table)
    assert f"{row['mean']:.4f}" in shown
    assert f"{row['mean_undecided']:.4f}" in shown
    assert " threshold " in shown


def test_without_a_decision_is_what_is_delivered_where_none_is_asked_for(tmp_path):
    both, plain = (
        mg.compare(
            task(lambda: nn.Linear(4, 1), epochs=15), losses=["cross_entropy"], trials=1, seeds=4, decision=decision,
            out=tmp_path / decision, progress=False,
        ).runs
        for decision in ("threshold", "none")
    )  # fmt: skip
    assert [run["test_undecided"] for run in both] == [run["test"] for run in plain]
    assert [run["test"] for run in both] != [run["test"] for run in plain]
    # without the epoch that flatters these very rows
    assert sum(run["valid_undecided"] for run in both) < sum(run["valid"] for run in plain)


def test_trials_have_both_and_are_compared_by_what_is_delivered(tmp_path):
    run(tmp_path, decision="threshold")
    tried = [line for line in lines(tmp_path) if "trial" in line]
    assert all(line["valid"] > line["valid_undecided"] for line in tried)
    best = max(tried, key=lambda line: line["valid"])
    assert all(line["params"] == best["params"] for line in lines(tmp_path) if "seed" in line)


def test_no_decision_is_one_reading(tmp_path):
    table = run(tmp_path, decision="none")
    assert all(line["valid"] == line["valid_undecided"] for line in lines(tmp_path))
    assert table["cross_entropy"]["mean"] == table["cross_entropy"]["mean_undecided"]
    assert " none " in str(table)


def test_another_decision_is_another_study(tmp_path):
    run(tmp_path, decision="none")
    with pytest.raises(mg.MetricgradError, match="another study: decision was 'none' and is now 'auto'"):
        run(tmp_path)


def test_a_metric_without_a_value_where_nothing_is_decided_is_no_failed_run(tmp_path):
    def precision(labels, targets):
        return float(targets[labels > 0].float().mean())  # NaN where nothing is positive

    metric = mg.as_metric(precision, higher_is_better=True, reads="labels")
    table = run(tmp_path, metric=metric)
    assert all(run["test"] is not None for run in table.runs)
    assert any(run["valid_undecided"] is None for run in lines(tmp_path))
