"""What can be found: against the noncentral t, against fresh draws, and against the intervals."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from mytnano.stats import eprocess
from mytnano.stats.power import POWER, minimum_detectable, pairs_for


@pytest.mark.parametrize(("n", "alpha"), [(4, 0.05), (8, 0.01), (24, 0.01)])
def test_the_paired_t_finds_what_the_noncentral_t_says(n, alpha):
    critical = stats.t.isf(alpha / 2, n - 1)

    def short_of(effect):
        return stats.nct.sf(critical, n - 1, effect * math.sqrt(n)) - POWER

    expected = optimize.brentq(short_of, 0.1, 10)
    assert minimum_detectable(n, alpha, classic=True) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("n", "alpha"), [(8, 0.01), (16, 0.05), (32, 0.0025)])
def test_fresh_experiments_find_the_least_effect_four_times_in_five(n, alpha):
    effect = minimum_detectable(n, alpha)
    noise = np.random.default_rng(99).standard_normal((20_000, n))

    def power(effect, sign=1, **given):
        return np.mean(eprocess.directions(noise + effect, alpha, **given) == sign)

    assert power(effect) == pytest.approx(POWER, abs=0.02)
    assert power(effect / 2) < POWER / 2
    assert power(effect, -1) < 0.01, "found, but with the wrong sign"
    unordered = minimum_detectable(n, alpha, ordered=False)
    assert unordered > effect, "one look finds less than many"
    assert power(unordered, ordered=False) == pytest.approx(POWER, abs=0.02)


def test_more_pairs_and_a_larger_alpha_find_less():
    by_pairs = [minimum_detectable(n, 0.01) for n in (8, 12, 24, 48)]
    assert by_pairs == sorted(by_pairs, reverse=True)
    assert minimum_detectable(12, 0.05) < minimum_detectable(12, 0.01)
    assert minimum_detectable(12, 0.01, classic=True) < minimum_detectable(12, 0.01), (
        "looking after every pair has its price"
    )


def test_too_few_pairs_find_nothing():
    least = eprocess.fewest_pairs(0.01)
    assert math.isinf(minimum_detectable(least - 1, 0.01))
    assert math.isfinite(minimum_detectable(least, 0.01))
    assert math.isinf(minimum_detectable(2, 0.05, classic=True))
    assert math.isfinite(minimum_detectable(3, 0.05, classic=True))


def test_the_answer_is_always_the_same():
    minimum_detectable.cache_clear()
    first = minimum_detectable(10, 0.01)
    minimum_detectable.cache_clear()
    assert minimum_detectable(10, 0.01) == first


def test_many_pairs_stay_affordable():
    assert 0.02 < minimum_detectable(10_000, 0.01) < 0.1


@pytest.mark.parametrize("half_width", [2.0, 0.5, 0.1])
def test_pairs_for_a_width_give_it(half_width):
    n = pairs_for(half_width, 0.01)
    assert eprocess.critical_t(n, 0.01) / math.sqrt(n) <= half_width
    before = int(0.98 * n) - 1
    assert eprocess.critical_t(before, 0.01) / math.sqrt(before) > half_width


def test_a_width_beyond_a_million_pairs_has_no_number():
    assert pairs_for(1e-5, 0.01) is None
