"""Intervals and tests against scipy and numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from metricgrad.comparison.statistics import corrected, holm, paired


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
