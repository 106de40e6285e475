"""Successive halving as a function of the trials already there; what a budget buys."""

import math

import pytest

import metricgrad as mg
from metricgrad.comparison.runs.budget import Cost, Limit, afforded, seconds_of
from metricgrad.comparison.runs.proposals import draw
from metricgrad.comparison.runs.tuning import SHARES, Halving, Search, stages
from metricgrad.losses.registry import Range

SPACE = {"lr": Range(1e-3, 1e-1, default=1e-2), "softness": Range(0.0, 1.0, default=0.5, log=False)}


def value(params, share):
    return -abs(math.log(params["lr"] / 0.02)) * (1 + share)


def trained(rule, upto=10_000, done=(), order=min):
    """Records of a study in which one trial after the other is run; ``order`` picks among those that are ready."""
    done = list(done)
    while len(done) < upto and (ready := list(rule.ready(SPACE, sorted(done, key=lambda r: r["trial"])))):
        trial = order(ready, key=lambda t: t.number)
        whole = {} if trial.share == 1 else {"share": trial.share}
        done.append({"trial": trial.number, "params": trial.params, "valid": value(trial.params, trial.share), **whole})
    return sorted(done, key=lambda r: r["trial"])


def test_a_third_goes_on_each_time_and_the_defaults_are_tried_at_full_length():
    rule = Halving(maximise=True, draws=9)
    done = trained(rule)
    assert len(done) == rule.total == 1 + 9 + 3 + 1
    assert done[0]["params"] == {"lr": 1e-2, "softness": 0.5}
    assert [r.get("share", 1.0) for r in done] == [1.0] + [SHARES[0]] * 9 + [SHARES[1]] * 3 + [1.0]
    first = sorted(done[1:10], key=lambda r: -r["valid"])
    assert [r["params"] for r in done[10:13]] == [r["params"] for r in first[:3]]
    assert done[13]["params"] == first[0]["params"]
    assert rule.best(done) == max((done[0], done[13]), key=lambda r: r["valid"])


@pytest.mark.parametrize("cut", [0, 1, 5, 10, 12])
def test_cut_anywhere_and_in_any_order_it_asks_for_the_same_trials(cut):
    rule = Halving(maximise=True, draws=9)
    whole = trained(rule)
    assert trained(rule, done=trained(rule, upto=cut)) == whole
    assert trained(rule, order=max) == whole


def test_errors_go_down_and_failures_come_last():
    rule = Halving(maximise=False, draws=3)
    done = trained(rule, upto=4)
    done[2]["valid"] = None
    (trial, *_) = rule.ready(SPACE, done)
    assert trial.params == min((done[1], done[3]), key=lambda r: r["valid"])["params"]
    for record in done:
        record["valid"] = None
    assert next(rule.ready(SPACE, done)).params == done[1]["params"]
    assert rule.best(done) is None


def test_draws_are_the_same_for_losses_whose_spaces_begin_alike_and_within_them():
    drawn = [draw(SPACE, number, seed=0) for number in range(200)]
    assert drawn[7]["lr"] == draw({"lr": SPACE["lr"]}, 7, seed=0)["lr"]
    assert all(1e-3 <= one["lr"] <= 1e-1 and 0 <= one["softness"] <= 1 for one in drawn)
    assert 0.4 < sum(one["lr"] < 1e-2 for one in drawn) / 200 < 0.6
    assert draw(SPACE, 7, seed=1) != drawn[7]


def test_more_trials_than_asked_for_do_not_count():
    rule = Search(maximise=True, trials=2)
    done = trained(Search(maximise=True, trials=4))
    assert [r["trial"] for r in rule.counted(done)] == [0, 1]
    assert list(rule.ready(SPACE, rule.counted(done))) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), (45, 45), ("10 minutes", 600), ("4min", 240),
        ("1 hour 30 min", 5400), ("90 sec", 90), ("2 days", 172800),
    ],
)  # fmt: skip
def test_budgets_as_people_write_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["ten", "10 apples", "0s", -3, "", "m10", "nan", "10 20m", "1e3"])
def test_what_is_no_budget_says_how_to_write_one(text):
    with pytest.raises(mg.MetricgradError, match="write it as 10m"):
        seconds_of(text)


def test_a_budget_buys_six_seeds_before_draws_and_no_more_than_is_asked_for():
    costs = {"a": Cost(1.0, 1 / 9), "b": Cost(1.0, 1 / 9)}
    most = Limit(1e6, trials=20, seeds=10)
    rich = afforded(most, 0, costs)
    assert rich["seeds"] == 10
    assert sum(c * s for c, s in zip(stages(rich["draws"]), SHARES, strict=True)) <= 19
    assert afforded(Limit(13.0, 20, 10), 0, costs) == {"draws": 0, "seeds": 6}
    assert afforded(Limit(16.5, 20, 10), 0, costs)["seeds"] == 6
    assert afforded(Limit(16.5, 20, 10), 0, costs)["draws"] > 0
    assert afforded(Limit(1.0, 20, 10), 5, costs) == {"draws": 0, "seeds": 1}
    assert afforded(Limit(25.0, 20, 10), 0, costs, extra=3.0)["seeds"] == 5


def test_what_draws_cost_counts_what_every_run_costs_however_short():
    assert Cost(1.0, 1.0).of_draws(9) == 13
    assert Cost(9.0, 1.0).of_draws(9) == pytest.approx(9 + 3 * 3 + 9)


@pytest.mark.parametrize(
    ("spent", "seeds", "jobs", "said"),
    [
        (0, 10, 1, None),
        (1, 10, 1, "for a verdict: 6 final runs of each loss take at least 31 s in all"),
        (1, 10, 2, None),
        (1, 5, 1, None),  # who asks for five gets no verdict anyway
        (
            26, 5, 1,
            "and is exceeded: one final run of each loss takes at least 31 s in all, 6 of each, for a verdict, 56 s",
        ),
    ],
)  # fmt: skip
def test_a_budget_that_is_too_short_is_said(spent, seeds, jobs, said):
    costs = {"cross_entropy": Cost(2.0, short=0.3), "uniloss": Cost(3.0, short=0.5)}
    found = Limit(30, trials=20, seeds=seeds).exceeded(spent, costs, jobs=jobs)
    whole = f"the budget of 30 s is too short {said}; give more time, fewer losses or more jobs"
    assert found == (None if said is None else whole)
