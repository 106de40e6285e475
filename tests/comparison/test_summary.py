"""Verdicts in words."""

import numpy as np
import pytest

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.statistics import holm
from metricgrad.comparison.summary import summarise

NOISE = [0.0, 0.004, -0.003, 0.002, -0.004, 0.001, 0.003, -0.002]


def row(name, role="candidate", standard=False):
    return Candidate(name, role, standard, {}, lambda params, seed: None)


def runs(name, level, *, seeds=8, valid=None, phase=1):
    noise = [phase * x for x in NOISE[:seeds]]
    shared = [0.01 * i for i in range(seeds)]
    return [
        {
            "loss": name, "seed": i, "valid": valid or level, "test": level + s + e, "test_undecided": level + s,
            "decision": "offsets" if i else "identity", "seconds": 1.0,
        }
        for i, (s, e) in enumerate(zip(shared, noise, strict=True))
    ]  # fmt: skip


def verdicts(rows, *records, higher=True, ratio=0.0, margin=0.005):
    found = [r for group in records for r in group]
    table, notes = summarise(rows, found, higher_is_better=higher, ratio=ratio, margin=margin)
    return {line["loss"]: line for line in table}, notes


BASE, NEW, BLIND = row("ce", standard=True), row("new"), row("margin", role="control")


def test_better_worse_and_neither():
    table, _ = verdicts([BASE, NEW], runs("ce", 0.8), runs("new", 0.9, phase=-1))
    assert table["ce"]["verdict"] == "baseline"
    assert table["ce"]["p"] is None
    assert table["new"]["verdict"] == "better"
    assert table["new"]["difference"] == pytest.approx(0.1, abs=1e-3)
    assert table["new"]["difference_low"] > 0
    assert verdicts([BASE, NEW], runs("ce", 0.9), runs("new", 0.8, phase=-1))[0]["new"]["verdict"] == "worse"
    neither = verdicts([BASE, NEW], runs("ce", 0.9), runs("new", 0.9, phase=-1), margin=0.001)[0]["new"]
    assert neither["verdict"] == "undecided"
    assert neither["more_seeds"] > 0


def test_direction_is_the_metric_s():
    table, _ = verdicts([BASE, NEW], runs("ce", 0.9), runs("new", 0.8, phase=-1), higher=False)
    assert table["new"]["verdict"] == "better"
    assert table["new"]["difference"] < 0


def test_too_few_seeds():
    table, _ = verdicts([BASE, NEW], runs("ce", 0.5, seeds=5), runs("new", 0.9, seeds=5, phase=-1))
    assert table["new"]["verdict"] == "too few seeds"


def test_baseline_is_chosen_by_validation_not_by_test():
    other = row("focal", standard=True)
    records = runs("ce", 0.8, valid=0.95), runs("focal", 0.9, valid=0.85, phase=-1)
    assert verdicts([BASE, other], *records)[0]["ce"]["verdict"] == "baseline"
    assert verdicts([BASE, other], *records, higher=False)[0]["focal"]["verdict"] == "baseline"


def test_a_control_with_the_same_gain_is_named():
    gain = runs("ce", 0.8), runs("new", 0.9, phase=-1)
    _, notes = verdicts([BASE, NEW, BLIND], *gain, runs("margin", 0.9, phase=-1))
    assert len(notes) == 1
    assert "the control margin shows the same gain" in notes[0]
    assert verdicts([BASE, NEW, BLIND], *gain, runs("margin", 0.8, phase=-1))[1] == []
    assert "no control was run" in verdicts([BASE, NEW], *gain)[1][0]


def test_several_candidates_are_adjusted_and_controls_are_not():
    third = row("third")
    records = (
        runs("ce", 0.8),
        runs("new", 0.802, phase=-1),
        runs("third", 0.801, phase=2),
        runs("margin", 0.802, phase=-1),
    )
    table, _ = verdicts([BASE, NEW, third, BLIND], *records)
    expected = holm([table[name]["p_unadjusted"] for name in ("new", "third")])
    assert [table[name]["p"] for name in ("new", "third")] == pytest.approx(expected)
    assert table["margin"]["p"] == table["margin"]["p_unadjusted"] == table["new"]["p_unadjusted"]


def test_a_diverged_seed_is_said_and_not_averaged_away():
    broken = runs("new", 0.9, phase=-1)
    broken[3] |= {"test": None, "valid": None}
    table, _ = verdicts([BASE, NEW], runs("ce", 0.8), broken)
    assert table["new"]["verdict"] == "diverged in 1 of 8 seeds"


def test_overlap_widens_the_interval():
    records = runs("ce", 0.8), runs("new", 0.8, phase=-1)
    plain, careful = (verdicts([BASE, NEW], *records, ratio=r)[0]["new"] for r in (0.0, 1 / 3))
    assert careful["difference_high"] - careful["difference"] == pytest.approx(
        (plain["difference_high"] - plain["difference"]) * ((1 / 8 + 1 / 3) * 8) ** 0.5
    )


def test_a_control_that_takes_a_part_away_is_spoken_of_either_way():
    walk = Candidate("walk", "control", False, {}, lambda params, seed: None, shows="that the policy matters")
    ala = Candidate("ala", "candidate", False, {}, lambda params, seed: None, controls=("walk",))

    def note(level, seeds=8, phase=-1):
        records = (
            runs("ce", 0.8, seeds=seeds),
            runs("ala", 0.9, seeds=seeds),
            runs("walk", level, seeds=seeds, phase=phase),
        )
        return verdicts([BASE, ala, walk], *records)[1]

    (better,) = note(0.8)
    assert "ala beats its control walk (ala - walk = +0.1" in better
    assert better.endswith("which shows that the policy matters")
    (same,) = note(0.9)
    assert "ala does not beat its control walk" in same
    assert same.endswith("nothing shows that the policy matters")
    assert "too few" in note(0.8, seeds=3)[0]
    assert "ala has the values of its control walk to the digit, in every seed" in note(0.9, phase=1)[0]


def test_a_control_of_another_loss_says_nothing():
    ala = Candidate("ala", "candidate", False, {}, lambda params, seed: None, controls=("walk",))
    wrong = row("uniloss:metric=accuracy", role="control")
    records = [
        runs(n, v, phase=p) for n, v, p in (("ce", 0.8, 1), ("ala", 0.9, -1), ("new", 0.9, -1), ("margin", 0.9, -1))
    ]
    _, notes = verdicts([BASE, ala, NEW, BLIND], *records)
    assert sum("margin" in note for note in notes) == 1  # it is new's
    _, notes = verdicts([BASE, ala, NEW, BLIND, wrong], *records, runs(wrong.name, 0.9, phase=-1))
    assert sum(wrong.name in note for note in notes) == 2  # and the wrong metric is everybody's


def test_equivalent_within_a_margin_wide_enough():
    records = runs("ce", 0.9), runs("new", 0.9, phase=-1)
    assert verdicts([BASE, NEW], *records, margin=0.02)[0]["new"]["verdict"] == "equivalent"
    table, _ = verdicts([BASE, NEW], *records, margin=0.001)
    assert table["new"]["verdict"] == "undecided"
    assert table["new"]["p_equivalent"] > 0.05
    assert table["ce"]["p_equivalent"] is None


def test_a_difference_shown_within_the_margin_is_equivalent():
    records = runs("ce", 0.9), runs("new", 0.903, phase=1.01)
    assert verdicts([BASE, NEW], *records, margin=0.001)[0]["new"]["verdict"] == "better"
    assert verdicts([BASE, NEW], *records, margin=0.01)[0]["new"]["verdict"] == "equivalent"


def test_equivalences_of_several_candidates_are_adjusted():
    records = runs("ce", 0.9), runs("new", 0.9, phase=-1), runs("third", 0.906, phase=2)
    table, _ = verdicts([BASE, NEW, row("third")], *records, margin=0.008)
    alone, _ = verdicts([BASE, NEW], *records[:2], margin=0.008)
    assert table["new"]["p_equivalent"] == pytest.approx(2 * alone["new"]["p_equivalent"])


def test_a_loss_under_another_name_is_rarely_better():
    """Splits redrawn from one pool, and trainings that differ from seed to seed."""
    rng = np.random.default_rng(0)
    said = []
    for _ in range(200):
        items = 0.15 * rng.normal(size=1000)
        draws = [float(items[rng.permutation(1000)[:200]].mean()) for _ in range(10)]
        noise = 0.005 * rng.normal(size=10)
        again = [
            {
                "loss": "new",
                "seed": i,
                "valid": 0.8,
                "test": 0.8 + d + e,
                "test_undecided": 0.8,
                "decision": "identity",
                "seconds": 1.0,
            }
            for i, (d, e) in enumerate(zip(draws, noise, strict=True))
        ]
        base = [{**run, "loss": "ce", "test": 0.8} for run in again]
        said.append(verdicts([BASE, NEW], base, again, ratio=1 / 3)[0]["new"]["verdict"])
    assert said.count("better") <= 10
    assert said.count("undecided") > 150
