"""``losses="auto"``: the ladder end to end, under a budget, cut and gone on with."""

import json
import os
import shutil
import time

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.comparison import look as looking
from metricgrad.comparison.look import look, situation
from metricgrad.comparison.report.study_file import read_study
from metricgrad.comparison.runs.agenda import TUNING_SEED
from metricgrad.comparison.runs.budget import Cost, Limit, afforded
from metricgrad.comparison.runs.plan import Plan
from metricgrad.comparison.verdicts import counted
from metricgrad.losses.registry import Range
from metricgrad.metrics.as_metric import as_metric
from metricgrad.tasks.split import split
from tests.forked import forked

NAMED = ["cross_entropy", "cross_entropy:weighting=balanced", "uniloss"]


def data(seed, rows=90, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator)
    return split(x, ((x[:, 0] + noise * torch.randn(rows, generator=generator)) > 1).long(), seed, stratify=True)


def tiny(load=data, metric="f1", **more):
    made = lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))  # noqa: E731
    settings = {"epochs": 1, "batch_size": 30, "device": "cpu"} | more
    return mg.Task("tiny", model=made, load=load, metric=metric, **settings)


def run(out, **more):
    settings = {"trials": 1, "seeds": 2, "controls": False, "progress": False}
    return mg.compare(tiny(), losses="auto", out=out, **(settings | more))


def lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def records(out):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in lines(out)]


def timeless(table):
    found = json.loads(json.dumps(table.to_dict()))
    for row in (*found["runs"], *found["summary"], *found["ladder"]):
        del row["seconds"]
    return found


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A study by a plan that was there."""
    out = tmp_path_factory.mktemp("planned")
    (out / "plan.json").write_text(json.dumps({"look": None, "afforded": {"draws": 3, "seeds": 2}}))
    return out, run(out, budget="1h")


def test_the_page_says_the_call_that_was_made(planned):
    out, _ = planned
    read, about = read_study(out)
    assert mg.load_table(out) == read
    assert about["command"] == "mg.compare('tiny', metric='f1', losses='auto', trials=1, seeds=2, budget='1h')"
    assert "most of them shorter than a training (successive halving)" in (out / "report.md").read_text()


def test_the_look_of_another_task_is_not_taken(tmp_path):
    plan, looks = Plan(tmp_path), []
    for of in ("one", "one", "other"):
        plan.look(of, lambda: looks.append(1))
    assert len(looks) == 2


def test_ignored_targets_are_no_class():
    def spoilt(seed):
        return [(x, torch.where(torch.arange(len(y)) % 9 == 0, -100, y)) for x, y in tiny().load(seed)]

    plain, metric = tiny(), mg.as_metric("accuracy", ignore_index=-100)
    targets = spoilt(TUNING_SEED)[0][1]
    counts = targets[targets >= 0].unique(return_counts=True)[1]
    plain.load = spoilt
    assert situation(plain, metric, None).classes == (int(counts.min()), int(counts.max()))


def test_rungs_rows_notes_and_files(tmp_path):
    table = run(tmp_path)
    assert [row["rung"] for row in table.ladder] == [
        "cross_entropy",
        "+ decision",
        "+ class weights",
        "+ the metric",
        "+ average of 3",
    ]
    assert [row["loss"] for row in table.summary] == [*NAMED, "cross_entropy x3"]
    assert [row["runs"] for row in table.ladder] == [3, 0, 3, 3, 2]
    assert table.recommendation["loss"] == "cross_entropy"
    assert "that takes 6 seeds or more, not 2" in table.recommendation["why"]
    assert any(note.startswith("not on the ladder: adalfl: ") for note in table.notes)
    assert "what each rung adds" in str(table)
    (tmp_path / "results.jsonl").unlink()
    plan = (tmp_path / "plan.json").read_bytes()
    assert timeless(run(tmp_path)) == timeless(table)
    assert (tmp_path / "plan.json").read_bytes() == plan


def test_the_average_is_that_of_three_trainings_on_the_same_parts(tmp_path):
    table = run(tmp_path)
    params = table.runs[0]["params"]
    train, valid, test = data(0)
    scores = []
    for seed in (0, 10_000_000, 20_000_000):
        torch.manual_seed(seed)
        result = mg.fit(
            tiny().model(), train, valid, metric="f1", loss="cross_entropy", lr=params["lr"], epochs=1, batch_size=30,
            weight_decay=params["weight_decay"], device="cpu", progress=False, seed=seed,
        )  # fmt: skip
        scores.append((result.predict_scores(valid), result.predict_scores(test)))
    on_valid, on_test = (torch.stack(each).mean(0) for each in zip(*scores, strict=True))
    decision = mg.fit_decision("f1", on_valid, valid[1], seed=0)
    averaged = next(run for run in table.runs if run["loss"] == "cross_entropy x3")
    assert averaged["decision"] == decision.kind
    assert averaged["test"] == pytest.approx(float(as_metric("f1")(decision(on_test), test[1])))
    assert averaged["valid_undecided"] == pytest.approx(float(as_metric("f1")(on_valid, valid[1])))


def test_a_budget_becomes_a_plan_once_by_the_seconds_of_the_first_trials(tmp_path):
    table = run(tmp_path, budget="9s", trials=3)
    plan = json.loads((tmp_path / "plan.json").read_text())
    timed = {name: [r["seconds"] for r in lines(tmp_path) if r["loss"] == name and "trial" in r][:2] for name in NAMED}
    spent = plan["look"]["seconds"] + sum(map(sum, timed.values()))
    costs = {name: Cost(*seconds) for name, seconds in timed.items()}
    extra = 3 * max(cost.whole for cost in costs.values())
    assert plan["afforded"] == afforded(Limit(9.0, 3, 2), spent, costs, extra=extra)
    assert any(f"came to {counted(plan['afforded']['draws'], 'draw')} by" in note for note in table.notes)
    with pytest.raises(mg.MetricgradError, match="another study: budget was"):
        run(tmp_path, budget="20s", trials=3)


@pytest.mark.parametrize("kept", [5, 20, 25])
def test_a_study_cut_anywhere_ends_as_its_plan_says(tmp_path, kept, planned):
    whole, table = planned
    shutil.copytree(whole, tmp_path / "cut")
    rows = (whole / "results.jsonl").read_bytes().splitlines(keepends=True)
    assert len(rows) == 3 * (1 + 3 + 1 + 1 + 2) + 2
    (tmp_path / "cut" / "results.jsonl").write_bytes(b"".join(rows[:kept]) + rows[kept][:9])
    assert timeless(run(tmp_path / "cut", budget="1h")) == timeless(table)
    assert records(tmp_path / "cut") == records(whole)


def test_a_budget_too_small_for_anything_still_trains_every_loss_once_and_says_so_at_once(tmp_path, capsys):
    table = run(tmp_path, budget=0.001, progress=True)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("note: ", "cross_entropy, "))]
    assert told[0].startswith("note: the budget of 1 s is too short and is exceeded: one final run of each loss takes")
    assert not any(line.startswith("note: ") for line in told[1:])
    assert any("give more time, fewer losses or more jobs" in note for note in table.notes)
    assert json.loads((tmp_path / "plan.json").read_text())["afforded"] == {"draws": 0, "seeds": 1}
    assert all(row["params"] == table.runs[0]["params"] for row in table.runs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="what is killed is a fork")
def test_killed_under_a_budget_it_goes_on_to_the_same_table(tmp_path, planned):
    whole, table = planned
    shutil.copy(whole / "plan.json", tmp_path)
    process, results = forked(run, tmp_path, budget="1h"), tmp_path / "results.jsonl"
    while not (results.exists() and results.read_bytes().count(b"\n") >= 7):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    before = results.read_bytes()
    assert timeless(run(tmp_path, budget="1h")) == timeless(table)
    assert results.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert records(tmp_path) == records(whole)


def test_a_plan_that_is_none_is_named(tmp_path):
    for text in ("{", "[]", '{"afforded": {"draws": "many", "seeds": 1}}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(mg.MetricgradError, match=r"plan\.json' is no plan of a study"):
            run(tmp_path)


def test_wrong_labels_in_the_training_part_are_seen(monkeypatch):
    def clean(seed):
        return data(seed, rows=900, noise=0.1)

    def spoiled(seed):
        train, valid, test = clean(seed)
        flipped = train[1].clone()
        flipped[::4] = 1 - flipped[::4]
        return (train[0], flipped), valid, test

    metric = as_metric("accuracy")
    longer = {"epochs": 9, "lr": Range(1e-3, 1e-1, default=5e-2)}
    task = tiny(spoiled, **longer)
    found, other = look(task, metric), look(tiny(clean, **longer), metric)
    assert found["train_loss"] > found["valid_loss"] + 2 * found["valid_error"]
    assert other["train_loss"] < other["valid_loss"] + 2 * other["valid_error"]
    assert situation(task, metric, found).train_loss == found["train_loss"]
    assert situation(task, metric, None).train_loss is None
    monkeypatch.setattr(looking, "on_loss", None)
    assert look(tiny(clean_valid=True), metric) is None  # nothing is trained


def test_classes_are_counted_where_items_have_one():
    assert situation(tiny(), as_metric("f1"), None).classes == tuple(sorted(data(1_000_000)[0][1].bincount().tolist()))
    values = lambda seed: [(part[0], part[0][:, 0]) for part in data(seed)]  # noqa: E731
    assert situation(tiny(values, metric="mse"), as_metric("mse"), None).classes is None


def test_one_name_is_no_list(tmp_path):
    with pytest.raises(mg.MetricgradError, match="losses is 'uniloss'; give a list of losses, or 'auto'"):
        mg.compare(tiny(), losses="uniloss", out=tmp_path)
