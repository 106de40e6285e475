"""The whole job: killed and resumed, with a user's own task and losses, lower is better."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.comparison.study import compare
from metricgrad.losses.registry import Range
from metricgrad.tasks.split import split
from metricgrad.tasks.task import Task


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(150, 4, generator=generator)
    return split(x, (x[:, :3] + torch.randn(150, 3, generator=generator)).argmax(1), seed)


def tiny(**more):
    settings = {"model": lambda: nn.Linear(4, 3), "load": data, "metric": "accuracy", "epochs": 3, "batch_size": 30}
    return Task("tiny", **(settings | more))


class Own(nn.CrossEntropyLoss):
    pass


def records(path):
    found = [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in found]


def run(out, *, trials=2, seeds=2, losses=("cross_entropy", Own), task=None, **more):
    return compare(task or tiny(), losses=losses, trials=trials, seeds=seeds, out=out, progress=False, **more)


def test_lines_table_and_files(tmp_path):
    table = run(tmp_path, seeds=6)
    lines = records(tmp_path)
    assert len(lines) == 3 * (2 + 6)  # the blind control joins
    finals = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines() if '"seed"' in line]
    assert finals == table.runs
    both = ["valid", "valid_undecided", "test", "test_undecided"]
    assert all(list(r) == ["loss", "role", "seed", *both, "decision", "seconds", "params"] for r in finals)
    assert [(row["loss"], row["role"]) for row in table.summary] == [
        ("cross_entropy", "candidate"),
        ("Own", "candidate"),
        ("margin", "control"),
    ]
    assert table["cross_entropy"]["verdict"] == "baseline"
    assert table["Own"]["difference"] == 0.0  # the same loss, the same draws
    assert table["Own"]["verdict"] == "equivalent"
    assert "baseline" in str(table)
    assert len(table.to_frame()) == 18
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_rerun_trains_nothing_and_more_seeds_extend_it(tmp_path):
    first = run(tmp_path)
    before = (tmp_path / "results.jsonl").read_bytes()
    assert run(tmp_path).to_dict() == first.to_dict()
    assert (tmp_path / "results.jsonl").read_bytes() == before
    longer = run(tmp_path, seeds=3)
    assert (tmp_path / "results.jsonl").read_bytes().startswith(before)
    assert len(longer.runs) == 9


def test_more_trials_reuse_what_is_there_and_end_as_if_asked_for_at_once(tmp_path):
    at_once = run(tmp_path / "at once", trials=5)
    for trials in (1, 5):
        before = (tmp_path / "results.jsonl").read_bytes() if (tmp_path / "results.jsonl").exists() else b""
        table = run(tmp_path, trials=trials)
        assert (tmp_path / "results.jsonl").read_bytes().startswith(before)
    strip = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert strip(table.runs) == strip(at_once.runs)
    assert strip(table.summary) == strip(at_once.summary)
    tried = [(r["loss"], r["trial"]) for r in records(tmp_path) if "trial" in r]
    assert sorted(tried) == sorted({*tried})  # none was run twice
    assert len(tried) == 15
    again = (tmp_path / "results.jsonl").read_bytes()
    assert run(tmp_path, trials=1).runs[0]["params"] == records(tmp_path)[0]["params"]
    assert (tmp_path / "results.jsonl").read_bytes() == again


def test_cut_short_anywhere_it_ends_as_if_undisturbed(tmp_path):
    run(tmp_path / "whole", trials=3)
    for lines in (1, 5, 9):
        cut = shutil.copytree(tmp_path / "whole", tmp_path / f"cut{lines}")
        kept = (cut / "results.jsonl").read_bytes().splitlines(keepends=True)
        (cut / "results.jsonl").write_bytes(b"".join(kept[:lines]) + kept[lines][:17])
        run(cut, trials=3)
        assert records(cut) == records(tmp_path / "whole")


def test_killed_in_the_middle_it_goes_on_to_the_same_results(tmp_path):
    run(tmp_path / "whole", seeds=5)
    here, cut = Path(__file__), tmp_path / "cut"
    program = (
        f"import sys; sys.path.insert(0, {str(here.parent)!r}); from pathlib import Path; import {here.stem} as t; "
    )
    program += f"t.run(Path({str(cut)!r}), seeds=5)"
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    results = cut / "results.jsonl"
    while not (results.exists() and results.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert results.read_bytes().count(b"\n") < len(records(tmp_path / "whole"))
    run(cut, seeds=5)
    assert records(cut) == records(tmp_path / "whole")


def test_lower_is_better_is_tuned_downwards(tmp_path):
    error = mg.as_metric(
        lambda labels, y: float((labels != y).float().mean()), higher_is_better=False, reads="labels", name="error"
    )
    table = run(tmp_path, metric=error, trials=3)
    trials = [r for r in records(tmp_path) if r["loss"] == "Own" and "trial" in r]
    best = min(trials, key=lambda r: r["valid"])
    assert all(r["params"] == best["params"] for r in table.runs if r["loss"] == "Own")


def test_fixed_parts_say_what_the_interval_covers(tmp_path):
    train, valid, test = data(0)
    task = tiny(load=None, train=train, valid=valid, test=test)
    assert "the test part is the same for every seed" in run(tmp_path, task=task).notes[-1]


class Explodes(nn.Module):
    def forward(self, scores, targets):
        return scores.sum() / 0


def test_a_loss_that_always_diverges_is_named(tmp_path):
    with pytest.raises(mg.MetricgradError, match="'Explodes' diverged in all 2 trials"):
        run(tmp_path, losses=["cross_entropy", Explodes])


def test_a_trial_that_diverges_does_not_end_the_study(tmp_path):
    calls = []

    def fragile():
        calls.append(1)
        return Explodes() if len(calls) == 2 else nn.CrossEntropyLoss()  # the first call describes it

    run(tmp_path, losses=["cross_entropy", fragile])
    assert [r["valid"] is None for r in records(tmp_path) if r["loss"] == "fragile"] == [True, False, False, False]


def test_standard_loss_joins_and_wrong_metric_is_a_control(tmp_path):
    table = run(tmp_path, losses=[Own, "margin"], trials=1, seeds=1)
    assert [row["loss"] for row in table.summary] == ["cross_entropy", "Own", "margin"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses": []}, "losses is empty"),
        ({"losses": ["mse"]}, "serves regression problems"),
        ({"losses": [Own, Own]}, r"Own more than once; pass functions, .*: def half\(\)"),
        ({"losses": ["mine.py:Own"]}, "a loss of your own has no path; register it"),
        ({"losses": ["pkg:Own"]}, "a loss of your own has no path; register it"),
        ({"losses": ["uniloss:sofness=1"]}, "takes"),
        ({"losses": [3]}, "not int"),
        ({"seeds": 0}, "at least 1"),
    ],
)
def test_bad_arguments_say_what_to_do(tmp_path, change, words):
    with pytest.raises(mg.MetricgradError, match=words):
        run(tmp_path, **change)


def test_learning_rates_are_the_task_s(tmp_path):
    run(tmp_path, task=tiny(lr=Range(0.2, 0.3, default=0.25)), controls=False)
    assert all(0.2 <= r["params"]["lr"] <= 0.3 for r in records(tmp_path))


def test_a_folder_refuses_another_loss_model_or_part_of_the_same_name(tmp_path):
    def study(loss=lambda: mg.UniLoss("f1"), hidden=None, shift=0.0):
        loss.__name__ = "mine"
        g = torch.Generator().manual_seed(0)
        parts = [(torch.randn(40, 3, generator=g), torch.arange(40) % 2) for _ in range(3)]
        parts[2] = (parts[2][0] + shift, parts[2][1])
        layers = [nn.Linear(3, 1)] if hidden is None else [nn.Linear(3, hidden), nn.Linear(hidden, 1)]
        task = mg.Task(
            "t", model=lambda: nn.Sequential(*layers, nn.Flatten(0)), train=parts[0], valid=parts[1], test=parts[2],
            metric="f1", epochs=1, device="cpu",
        )  # fmt: skip
        return mg.compare(task, losses=["cross_entropy", loss], trials=1, seeds=1, out=tmp_path, progress=False)

    study()
    study()
    for other in ({"loss": lambda: mg.UniLoss("accuracy", q=1.0)}, {"hidden": 2}, {"shift": 1.0}):
        with pytest.raises(mg.MetricgradError, match="another study"):
            study(**other)


def test_a_folder_refuses_a_metric_or_a_loss_whose_body_has_changed(tmp_path):
    def study(metric=lambda scores, targets: float((scores.argmax(1) == targets).double().mean()), loss=Own, **fixed):
        loss.__name__ = "mine"
        judged_by = mg.as_metric(metric, higher_is_better=True, name="hits", **fixed)
        return run(tmp_path, losses=["cross_entropy", loss], metric=judged_by, trials=1, seeds=1)

    class Halved(Own):
        def forward(self, scores, targets):
            return super().forward(scores, targets) / 2

    first = study()
    assert study().to_dict() == first.to_dict()
    for other in ({"metric": lambda scores, targets: 0.5}, {"loss": Halved}):
        with pytest.raises(mg.MetricgradError, match="another study: code was"):
            study(**other)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("code")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert study().to_dict() == first.to_dict()  # of an earlier version, which did not say it


def test_a_form_is_no_loss_yet():
    with pytest.raises(mg.MetricgradError, match=r"losses has the form NeuralLoss; .*mg\.Loss\(form\)"):
        compare(tiny(), losses=[mg.forms.NeuralLoss], trials=1, seeds=1, progress=False)


def test_a_task_that_loads_two_parts_is_told_of_three():
    with pytest.raises(mg.MetricgradError, match="gives 2; expected three parts"):
        compare(tiny(load=lambda seed: data(seed)[:2]), losses=["cross_entropy"], trials=1, seeds=1, progress=False)
