"""The classical tests against SciPy's paired test and against every pattern of signs."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mytnano.stats.fixed import constant, directions, paired_t, sign_flip


def runs(n, seed=0):
    rng = np.random.default_rng(seed)
    baseline = rng.normal(2.0, 0.1, n)
    return baseline + rng.normal(0.02, 0.03, n), baseline


@pytest.mark.parametrize("n", [3, 8, 30])
def test_the_paired_t_is_that_of_the_two_arms(n):
    arm, baseline = runs(n)
    p, interval = paired_t(arm - baseline, 0.01)
    expected = stats.ttest_rel(arm, baseline)
    ends = expected.confidence_interval(0.99)
    assert p == pytest.approx(expected.pvalue)
    assert (interval.low, interval.high) == pytest.approx((ends.low, ends.high))
    assert (p <= 0.01) == (interval.low > 0 or interval.high < 0)


@pytest.mark.parametrize("n", [3, 6, 10])
def test_sign_flips_are_all_of_them(n):
    arm, baseline = runs(n, seed=n)
    d = arm - baseline
    sums = [np.dot(signs, d) for signs in itertools.product((1, -1), repeat=n)]
    extreme = np.mean([abs(each) >= abs(d.sum()) - 1e-12 for each in sums])
    assert sign_flip(d) == pytest.approx(extreme)
    assert sign_flip(np.abs(d)) == pytest.approx(2 / 2**n), "the least that n pairs can give"


def test_many_pairs_are_a_sample_of_flips_that_is_always_the_same():
    d = np.random.default_rng(5).normal(0.3, 1.0, 40)
    assert sign_flip(d) == sign_flip(d)
    assert sign_flip(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=0.2)


def test_without_a_spread_or_pairs_there_is_no_t():
    p, interval = paired_t(np.full(8, 0.2), 0.01)
    assert p == sign_flip(np.full(8, 0.2)) == pytest.approx(2 / 2**8)
    assert (interval.low, interval.high) == (0.2, 0.2), "the one mean that no sign flip rejects"
    few = paired_t(np.full(7, 0.2), 0.01)[1]
    assert (few.low, few.high) == (-math.inf, math.inf)
    assert paired_t([0.3], 0.01)[0] == paired_t([], 0.01)[0] == sign_flip(np.zeros(5)) == 1.0
    assert constant([0.1 + 0.2, 0.3]) and not constant([0.1, 0.2]) and constant([])


def test_directions_are_those_of_the_interval():
    d = np.random.default_rng(2).normal(0.8, 1.0, (50, 8)) * np.repeat([[1], [-1]], 25, axis=0)
    for row, sign in zip(d, directions(d, 0.05), strict=True):
        _, interval = paired_t(row, 0.05)
        assert sign == (interval.low > 0) - (interval.high < 0)
    assert set(directions(d, 0.05)) == {-1, 0, 1}
