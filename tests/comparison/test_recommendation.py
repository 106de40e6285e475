"""What is recommended, on which rung, and what each rung cost."""

import pytest

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.ladder import Rung
from metricgrad.comparison.recommendation import climbed, ladder_rows, recommendation, rungs_of

NOISE = [0.001, -0.002, 0.002, -0.001, 0.001, -0.001, 0.002, -0.002]


def runs(loss, level, *, undecided=None, decision="identity", seeds=8, phase=1):
    plain = level if undecided is None else undecided
    return [
        {
            "loss": loss,
            "seed": i,
            "valid": level + phase * e,
            "valid_undecided": plain + phase * e / 2,
            "decision": decision,
        }
        for i, e in enumerate(NOISE[:seeds])
    ]


def row(name, standard=False, role="candidate"):
    return Candidate(name, role, standard, {}, lambda params, seed: None)


def climb_to(rows, *groups, higher=True, seeds=8, guarded=True):
    found = [run for group in groups for run in group]
    rungs = rungs_of(rows, found)
    steps = climbed(rungs, found, higher_is_better=higher, ratio=0.0, guarded=guarded)
    ladder = ladder_rows(rungs, steps, found, {row.name: (10.0, 3) for row in rows})
    return ladder, recommendation(ladder, "f1", seeds)


def test_named_losses_are_rungs_in_their_order_standard_ones_first_and_controls_none():
    rows = [row("new"), row("ce", standard=True), row("margin", role="control")]
    ladder, said = climb_to(rows, runs("new", 0.9, phase=-1), runs("ce", 0.8), runs("margin", 0.99))
    assert [line["rung"] for line in ladder] == ["ce", "new"]
    assert [line["taken"] for line in ladder] == [True, True]
    assert (said["loss"], said["decision"]) == ("new", "none")
    assert said["why"].startswith("new gains +0.1000 f1 on validation over ce (90 % interval +0.09")


def test_a_decision_that_changes_no_value_goes_with_the_first_rung():
    """That of recall at a precision: without it, a rare class is never answered."""
    found = [runs(loss, 0.8, decision="at_precision") for loss in ("ce", "new")]
    for run in found[0] + found[1]:
        run["valid_undecided"] = run["valid"]
    ladder, said = climb_to([row("ce", standard=True), row("new")], *found)
    assert [(line["rung"], line["decision"]) for line in ladder] == [("ce", "at_precision"), ("new", "at_precision")]
    assert (said["loss"], said["decision"]) == ("ce", "at_precision")


def test_a_decision_is_a_rung_of_its_own_that_costs_no_run():
    rows = [row("ce", standard=True), row("new")]
    ce = runs("ce", 0.85, undecided=0.7, decision="threshold")
    ladder, said = climb_to(rows, ce, runs("new", 0.85, decision="threshold", phase=-1))
    assert [line["rung"] for line in ladder] == ["ce", "+ decision", "new"]
    assert [line["decision"] for line in ladder] == ["none", "threshold", "threshold"]
    assert [line["taken"] for line in ladder] == [True, True, False]
    assert [(line["seconds"], line["runs"]) for line in ladder] == [(10.0, 3), (0.0, 0), (10.0, 3)]
    assert ladder[1]["added"] == pytest.approx(0.15)
    assert ladder[1]["low"] < 0.15 < ladder[1]["high"]
    assert (said["loss"], said["decision"]) == ("ce", "threshold")
    assert said["why"].endswith("nothing shows that new adds to ce with its decision")


def test_the_best_mean_is_not_the_choice():
    ladder, said = climb_to([row("ce", standard=True), row("new")], runs("ce", 0.8), runs("new", 0.8005, phase=-1))
    assert ladder[1]["added"] > 0
    assert ladder[1]["low"] < 0
    assert said["loss"] == "ce"


def test_errors_go_down():
    ladder, said = climb_to(
        [row("ce", standard=True), row("new")], runs("ce", 0.3), runs("new", 0.2, phase=-1), higher=False
    )
    assert ladder[1]["added"] == pytest.approx(0.1)
    assert said["loss"] == "new"


def test_few_seeds_say_so_and_one_seed_has_no_interval():
    rows = [row("ce", standard=True), row("new"), row("other")]
    every = (runs(name, level, seeds=5) for name, level in (("ce", 0.5), ("new", 0.9), ("other", 0.8)))
    _, said = climb_to(rows, *every, seeds=5)
    assert said["loss"] == "ce"
    assert said["why"] == "nothing shows that new or other adds to ce: that takes 6 seeds or more, not 5"
    ladder, _ = climb_to(rows[:2], runs("ce", 0.5, seeds=1), runs("new", 0.9, seeds=1), seeds=1)
    assert (ladder[1]["low"], ladder[1]["taken"]) == (None, False)


def test_a_decision_is_named_in_a_sentence_as_people_do():
    decided = [{**one, "decision": "threshold", "valid": one["valid"] + 0.1} for one in runs("ce", 0.8)]
    said = climb_to([row("ce", standard=True)], decided)[1]
    assert said["why"].startswith("a decision gains +0.1000 f1 on validation over ce (90 % interval")


def test_one_loss_alone():
    _, said = climb_to([row("ce", standard=True)], runs("ce", 0.5))
    assert said == {"loss": "ce", "decision": "none", "why": "it is the only one"}


def test_decisions_that_differ_are_named_by_the_most_frequent():
    found = runs("ce", 0.5, decision="offsets", seeds=3) + runs("ce", 0.5, seeds=2)
    rungs = [Rung("ce", "ce")]
    (line,) = ladder_rows(rungs, [], found, {"ce": (1.0, 5)})
    assert line["decision"] == "offsets"


@pytest.mark.parametrize(("decided", "guarded", "taken"), [(8, True, True), (7, True, False), (8, False, False)])
def test_one_seed_that_gains_far_more_does_not_hide_a_decision_that_all_seeds_took(decided, guarded, taken):
    gains = [0.05, 0.05, 0.05, 1.2, 0.05, 0.05, 0.05, 0.05]
    ce = runs("ce", 0.5, decision="threshold")
    for place, (run, gain) in enumerate(zip(ce, gains, strict=True)):
        run["valid_undecided"] = run["valid"] - gain
        run["decision"] = "threshold" if place < decided else "identity"
    ladder, said = climb_to([row("ce", standard=True), row("new")], ce, runs("new", 0.5, phase=-1), guarded=guarded)
    assert ladder[1]["low"] < 0 < ladder[1]["added"]
    assert [line["taken"] for line in ladder] == [True, taken, False]
    assert said["decision"] == ("threshold" if taken else "none")
    assert ("every seed's cross-validation took a decision" in said["why"]) is taken


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_decision_that_all_of_a_few_seeds_took_is_kept_as_a_training_alone_keeps_it(seeds):
    ce = [{**run, "decision": "threshold", "valid_undecided": 0.0} for run in runs("ce", 0.5, seeds=seeds)]
    ladder, said = climb_to([row("ce", standard=True), row("new")], ce, runs("new", 0.9, seeds=seeds), seeds=seeds)
    assert [line["taken"] for line in ladder] == [True, True, False]
    assert (said["loss"], said["decision"]) == ("ce", "threshold")
    assert (
        "every seed's cross-validation took a decision; nothing shows that new adds to ce with its decision"
        in said["why"]
    )
    assert ("nan" in said["why"], "None" in said["why"]) == (False, False)
