"""Words for what a difference shows, and the margin where none is given."""

import pytest

from metricgrad.comparison.verdicts import default_margin, note_on_floor, words


def test_margin_of_scores_between_0_and_1_is_that_of_the_range():
    assert default_margin([0.2, 0.3, -0.1], higher_is_better=True) == 0.005
    assert default_margin([], higher_is_better=True) == 0.005


def test_margin_of_errors_and_of_other_units_is_half_a_percent():
    assert default_margin([0.02, 0.04], higher_is_better=False) == pytest.approx(0.00015)
    assert default_margin([900.0, 1100.0], higher_is_better=True) == pytest.approx(5.0)


def test_words():
    row = {"loss": "new", "verdict": "undecided", "more_seeds": 12}
    assert words(row) == "undecided, about 12 more seeds"
    assert words({**row, "more_seeds": 12_345}) == "undecided, about 12,000 more seeds"
    assert words({**row, "more_seeds": None}) == "undecided at any number of seeds"
    assert words({**row, "verdict": "equivalent"}) == "equivalent"


def test_note_on_what_no_number_of_seeds_tells():
    rows = [
        {"loss": "a", "verdict": "undecided", "more_seeds": None},
        {"loss": "b", "verdict": "undecided", "more_seeds": 3},
        {"loss": "c", "verdict": "better", "more_seeds": None},
    ]
    note = note_on_floor(rows, 0.005, 1 / 3)
    assert note.startswith("no number of seeds would tell a from the baseline: every seed draws from the same items")
    assert note.endswith("or a margin above 0.005")
    assert note_on_floor(rows[1:], 0.005, 1 / 3) is None
