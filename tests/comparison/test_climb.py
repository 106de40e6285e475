"""The rule that recommends: what it takes, what it leaves, and how often it is wrong where there is nothing to take."""

import math

import numpy as np
import pytest

from metricgrad.comparison.climb import climb, difference


def rung(values):
    return dict(enumerate(map(float, values)))


BASE = np.linspace(0.6, 0.7, 8)
SMALL = np.array([1, -1, 2, -2, 1, -1, 2, -2]) * 1e-3


def taken(*rungs, **more):
    steps = climb([rung(r) for r in rungs], **{"higher_is_better": True, **more})
    return [step.taken for step in steps]


def test_each_rung_is_held_against_the_choice_below_it():
    steps = climb([rung(BASE), rung(BASE + SMALL), rung(BASE + 0.1 - SMALL), rung(BASE + 0.1)], higher_is_better=True)
    assert [step.taken for step in steps] == [False, True, False]
    assert [step.over for step in steps] == [0, 0, 2]
    assert steps[1].added.mean == pytest.approx(0.1)
    assert steps[2].added.mean == pytest.approx(0.0)


def test_direction():
    assert taken(BASE, BASE - 0.1 + SMALL, higher_is_better=False) == [True]
    assert taken(BASE, BASE + 0.1 + SMALL, higher_is_better=False) == [False]
    assert taken(BASE, BASE - 0.1 + SMALL) == [False]


def test_it_is_the_one_sided_test_by_hand():
    # mean 0.001, deviation of SMALL sqrt(20/7) e-3 = 0.00169: error 0.000598, t = 1.673 below 1.895 at 7 degrees
    assert taken(BASE, BASE + SMALL + 0.001) == [False]
    assert taken(BASE, BASE + SMALL + 0.0012) == [True]  # t = 2.008
    assert taken(BASE, BASE + SMALL + 0.0012, ratio=1 / 3) == [False]


def test_few_seeds_and_failed_ones_take_nothing():
    assert taken(BASE[:5], BASE[:5] + 0.1 + SMALL[:5]) == [False]
    better = rung(BASE + 0.1 + SMALL)
    broken = {**better, 3: None}
    steps = climb([rung(BASE), broken, better], higher_is_better=True)
    assert [step.taken for step in steps] == [False, True]
    assert steps[0].added.n == 7
    assert math.isnan(difference({0: None}, {0: 1.0}, higher_is_better=True, ratio=0.0).mean)


def test_losses_that_are_the_same_are_rarely_taken_and_better_ones_are():
    """Splits redrawn from one pool: items differ from loss to loss, trainings from seed to seed, means do not."""
    rng = np.random.default_rng(0)
    wrong = some = right = 0
    for _ in range(200):
        items = 0.15 * rng.normal(size=(4, 1000))
        draws = [rng.permutation(1000)[:200] for _ in range(10)]
        seen = np.stack([items[:, draw].mean(1) for draw in draws], axis=1) + 0.005 * rng.normal(size=(4, 10))
        rungs = [np.zeros(10), *seen]
        wrong += taken(*rungs[:2], ratio=1 / 3) == [True]
        some += any(taken(*rungs, ratio=1 / 3))
        right += taken(np.zeros(10), seen[0] + 0.03, ratio=1 / 3) == [True]
    assert wrong <= 10  # one in twenty
    assert some <= 40  # of four rungs
    assert right >= 180
