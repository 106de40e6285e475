"""Intervals and tests against scipy and numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from metricgrad.comparison.statistics import corrected, equivalence, holm, paired, seeds_to_tell


def test_without_overlap_it_is_the_t_test_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 1, 12), rng.normal(0, 1, 12)
    expected = stats.ttest_rel(a, b)
    found = paired(a.tolist(), b.tolist())
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_correction_by_hand():
    # differences 1, 2, 3: mean 2, variance 1; factor 1/3 + 1/3, error sqrt(2/3), t = sqrt(6), 2 degrees of freedom
    found = corrected([1.0, 2.0, 3.0], ratio=1 / 3)
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(6), 2))
    assert found.p == pytest.approx(0.1339746, abs=1e-6)  # 1 - t / sqrt(t**2 + 2) at t = sqrt(6)
    assert found.high - found.mean == pytest.approx(4.30265273 * math.sqrt(2 / 3))


def test_plain_test_on_shared_items_finds_what_is_not_there():
    """Resampled halves of one sample with no difference: the corrected test keeps its level, the plain one does not."""
    rng = np.random.default_rng(1)
    plain = careful = 0
    for _ in range(300):
        pool = rng.normal(size=60)
        values = [float(pool[rng.permutation(60)[:15]].mean()) for _ in range(10)]
        plain += corrected(values).p < 0.05
        careful += corrected(values, ratio=15 / 45).p < 0.05
    assert plain > 60
    assert careful < 30


def test_degenerate_input():
    assert math.isnan(corrected([]).mean)
    assert math.isnan(corrected([1.0]).p)
    assert corrected([1.0]).mean == 1.0
    assert corrected([0.0, 0.0]).p == 1.0
    assert corrected([0.5, 0.5]).p == 0.0


def test_holm_against_the_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    adjusted = holm([0.02, math.nan])
    assert adjusted[0] == 0.02
    assert math.isnan(adjusted[1])


def test_equivalence_is_the_90_percent_interval_within_the_margin():
    rng = np.random.default_rng(2)
    for ratio in (0.0, 1 / 3):
        for _ in range(50):
            values = rng.normal(rng.normal(0, 0.003), 0.003, 8)
            found = corrected(values.tolist(), ratio)
            half = stats.t.ppf(0.95, 7) * values.std(ddof=1) * math.sqrt(1 / 8 + ratio)
            inside = abs(values.mean()) + half < 0.005
            assert (equivalence(found, 0.005) < 0.05) == inside


def test_equivalence_against_two_one_sided_tests_of_scipy():
    values = [0.002, -0.001, 0.003, 0.001, 0.0, 0.002]
    lower = stats.ttest_1samp(values, -0.004, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, 0.004, alternative="less").pvalue
    assert equivalence(corrected(values), 0.004) == pytest.approx(max(lower, upper))


def test_equivalence_of_equal_and_of_single_values():
    assert equivalence(corrected([0.0, 0.0]), 0.005) == 0.0
    assert equivalence(corrected([0.01, 0.01]), 0.005) == 1.0
    assert math.isnan(equivalence(corrected([0.0]), 0.005))


def test_a_difference_at_the_margin_is_equivalent_in_one_study_of_twenty():
    rng = np.random.default_rng(3)
    said = sum(equivalence(corrected(rng.normal(0.005, 0.004, 10).tolist()), 0.005) < 0.05 for _ in range(1000))
    assert 30 < said < 70


def test_seeds_to_tell_tell_four_times_in_five():
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, 10)
    values = (values - values.mean()) / values.std(ddof=1)
    for mean, shown in ((0.02, True), (0.0, False)):
        now = corrected((mean + 0.03 * values).tolist())
        n = 10 + seeds_to_tell(now, 0.01)
        later = [corrected((mean + 0.03 * rng.normal(size=n)).tolist()) for _ in range(1000)]
        told = sum(each.p < 0.05 if shown else equivalence(each, 0.01) < 0.05 for each in later)
        assert told == pytest.approx(800 if shown else 600, abs=60)  # at 0, both sides must be told: 2 * 0.8 - 1


def test_redrawn_splits_have_a_floor_that_seeds_do_not_lower():
    values = [0.01, 0.03, -0.01, 0.02, 0.0, 0.01]  # mean 0.01, deviation 0.0141
    assert seeds_to_tell(corrected(values), 0.005) < 20
    # the limit of the error is 0.0141 * sqrt(1/3) = 0.0082, and to show 0.01 takes 2.80 of them
    assert seeds_to_tell(corrected(values, 1 / 3), 0.005, 1 / 3) is None
    # with 1/20 it is 0.0032, and 2.80 of them are 0.0089
    assert 0 < seeds_to_tell(corrected(values, 1 / 20), 0.005, 1 / 20) < 200


def test_several_tests_need_more_seeds():
    found = corrected([0.01, 0.03, -0.01, 0.02, 0.0, 0.01])
    assert seeds_to_tell(found, 0.001, tests=5) > seeds_to_tell(found, 0.001)
