"""The Bayes factor against its integrals, the interval against brute force, both against chance."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from mytnano.stats import eprocess
from mytnano.stats.eprocess import (
    FEWEST,
    anytime_p,
    critical_t,
    directions,
    evidence,
    fewest_pairs,
    intervals,
    largest_possible,
    log_bayes_factors,
    running_interval,
)


def sample(n, mean=0.6, deviation=1.3, seed=0):
    return mean + deviation * np.random.default_rng(seed).standard_normal(n)


def marginal(d, g):
    """Likelihood integrated over the effect and log(sigma), as 1 / sigma is flat in it."""
    log_sigma = math.log(np.sqrt(np.mean(d**2))) + np.linspace(-5, 9, 1201)
    effect = np.linspace(-14, 14, 1201) if g else np.zeros(1)
    sigma = np.exp(log_sigma)[:, None]
    logs = sum(stats.norm.logpdf(each, effect * sigma, sigma) for each in d)
    over_sigma = integrate.simpson(np.exp(logs), x=log_sigma, axis=0)
    if not g:
        return over_sigma[0]
    return integrate.simpson(over_sigma * stats.norm.pdf(effect, scale=math.sqrt(g)), x=effect)


@pytest.mark.parametrize(("n", "g"), [(3, 1.0), (5, 1.0), (8, 4.0)])
def test_the_factor_is_the_ratio_of_integrated_likelihoods(n, g):
    d = sample(n, seed=n)
    expected = math.log(marginal(d, g) / marginal(d, 0.0))
    assert log_bayes_factors(d, g)[-1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("g", [1.0, 4.0])
def test_the_factor_is_the_formula_in_t_at_every_n(g):
    d = sample(12)
    for n in range(2, 13):
        t = stats.ttest_1samp(d[:n], 0).statistic
        v, c = n - 1, 1 + n * g
        factor = c**-0.5 * ((1 + t**2 / v) / (1 + t**2 / (v * c))) ** ((v + 1) / 2)
        assert log_bayes_factors(d, g)[n - 1] == pytest.approx(math.log(factor))
    assert log_bayes_factors(d, g)[0] == pytest.approx(0), "one pair says nothing"


def test_neither_unit_nor_direction_matters_to_the_factor():
    d = sample(9)
    for other in (1000 * d, -d, d * 1e-9):
        np.testing.assert_allclose(log_bayes_factors(other), log_bayes_factors(d))


def test_pairs_without_spread_give_the_largest_factor_and_zeros_the_smallest():
    for n in range(1, 20):
        assert log_bayes_factors(np.full(n, 0.7))[-1] == pytest.approx(largest_possible(n))
        assert log_bayes_factors(np.zeros(n))[-1] == pytest.approx(-math.log1p(n) / 2)
        assert log_bayes_factors(sample(n))[-1] < largest_possible(n) + 1e-9


def test_nothing_counts_before_the_fewest_pairs():
    logs = evidence(np.ones((2, 5)))
    assert np.isneginf(logs[:, : FEWEST - 1]).all() and np.isfinite(logs[:, FEWEST - 1 :]).all()
    assert anytime_p([1.0, 1.0]) == 1.0 and anytime_p([]) == 1.0
    assert anytime_p(np.ones(3)) == pytest.approx(math.exp(-largest_possible(3)))


def test_the_p_value_is_that_of_the_best_look_and_at_most_one():
    d = np.concatenate([sample(12, 2.0), -sample(30, 2.0)])
    assert anytime_p(d) == pytest.approx(math.exp(-log_bayes_factors(d)[:12].max()))
    assert log_bayes_factors(d)[-1] < log_bayes_factors(d)[:12].max()
    assert anytime_p(sample(5, 0.0, seed=3)) == 1.0


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.002])
def test_fewest_pairs_are_those_that_can_decide(alpha):
    n = fewest_pairs(alpha)
    assert anytime_p(np.ones(n)) <= alpha < anytime_p(np.ones(n - 1))
    assert np.isfinite(critical_t(n, alpha)) and np.isinf(critical_t(n - 1, alpha))


@pytest.mark.parametrize(("n", "alpha", "g"), [(6, 0.01, 1.0), (9, 0.05, 1.0), (20, 0.01, 4.0)])
def test_the_interval_holds_the_means_that_brute_force_does_not_reject(n, alpha, g):
    d = sample(n, seed=n)
    low, high = intervals(d, alpha, g)
    width = high[-1] - low[-1]
    grid = np.linspace(low[-1] - width, high[-1] + width, 30_001)
    held = log_bayes_factors(d - grid[:, None], g)[:, -1] < -math.log(alpha)
    step = grid[1] - grid[0]
    assert held.any() and not held.all()
    assert grid[held].min() == pytest.approx(low[-1], abs=1.01 * step)
    assert grid[held].max() == pytest.approx(high[-1], abs=1.01 * step)


def test_an_interval_is_endless_until_some_t_could_be_rejected():
    low, high = intervals(sample(8), 0.01)
    n = fewest_pairs(0.01)
    assert np.isinf(low[: n - 1]).all() and np.isinf(high[: n - 1]).all()
    assert np.isfinite(low[n - 1 :]).all()
    assert np.isinf(intervals(sample(8), 0.4, 4.0)[0][: FEWEST - 1]).all()


def test_the_running_interval_only_narrows_and_agrees_with_p():
    for seed in range(40):
        d = sample(30, mean=0.9, seed=seed)
        lows, highs = zip(*((i.low, i.high) for i in prefixes(d)), strict=True)
        assert list(lows) == sorted(lows) and list(highs) == sorted(highs, reverse=True)
        for n in range(1, 31):
            excludes = lows[n - 1] > 0 or highs[n - 1] < 0
            assert excludes == (anytime_p(d[:n]) <= 0.01)


def prefixes(d, alpha=0.01):
    found = [running_interval(d[:n], alpha) for n in range(1, len(d) + 1)]
    assert not any(each.contradictory for each in found)
    return found


def test_early_and_late_pairs_that_contradict_each_other_are_told():
    d = np.concatenate([sample(10, 5.0), sample(60, -5.0, seed=1)])
    found = running_interval(d, 0.01)
    assert found.contradictory
    assert (found.low, found.high) == tuple(ends[-1] for ends in intervals(d, 0.01))
    assert directions(d, 0.01) == 0
    assert running_interval([], 0.01) == eprocess.Interval(-math.inf, math.inf)


@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e-7, 12.3])
def test_rounding_is_not_taken_for_a_contradiction(value):
    d = np.full(30, value)
    d[10:] = np.nextafter(value, 100)
    found = running_interval(d, 0.01)
    assert not found.contradictory and found.low <= value <= found.high
    assert found.high - found.low < 1e-6


def test_many_experiments_at_once_are_each_by_itself():
    d = sample(40 * 12, 1.2).reshape(40, 12)
    np.testing.assert_array_equal(directions(d, 0.01), [directions(row, 0.01) for row in d])
    np.testing.assert_allclose(log_bayes_factors(d)[7], log_bayes_factors(d[7]))
    assert set(directions(d, 0.01)) == {0, 1}
    np.testing.assert_array_equal(directions(-d, 0.01), -directions(d, 0.01))


LAST, NULLS = 64, 10_000


def upper_limit(count, experiments=NULLS):
    return stats.binomtest(int(count), experiments).proportion_ci(0.95, "exact").high


@pytest.fixture(scope="module")
def nulls():
    return np.random.default_rng(1).standard_normal((NULLS, LAST))


@pytest.mark.parametrize(("alpha", "g"), itertools.product([0.05, 0.01], [1.0, 4.0]))
def test_looking_after_every_pair_is_wrong_at_most_alpha_of_the_time(nulls, alpha, g):
    wrong = np.sum(evidence(nulls, g).max(axis=1) >= -math.log(alpha))
    assert wrong > 0 and upper_limit(wrong) <= alpha
    assert np.sum(directions(nulls, alpha, g) != 0) <= wrong


def test_the_same_looks_would_ruin_a_t_test(nulls):
    """The simulation can see a rule that is wrong."""
    n = np.arange(1, LAST + 1)
    mean = np.cumsum(nulls, axis=1) / n
    spread = np.cumsum(nulls**2, axis=1) - n * mean**2
    t = mean[:, 2:] / np.sqrt(spread[:, 2:] / (n[2:] - 1) / n[2:])
    wrong = np.sum(np.any(np.abs(t) > stats.t.isf(0.005, n[2:] - 1), axis=1))
    assert wrong > 5 * 0.01 * NULLS


def test_the_interval_holds_the_truth_at_all_looks_at_once(nulls):
    low, high = intervals(nulls + 3.0, 0.05)
    missed = np.sum((low.max(axis=1) > 3.0) | (high.min(axis=1) < 3.0))
    assert missed > 0 and upper_limit(missed) <= 0.05


def test_contradictions_are_rare(nulls):
    for effect in (0.0, 1.0):
        d = nulls[:2000] + effect
        low, high = intervals(d, 0.01)
        mean = d.mean(axis=1)
        odd = np.sum((low.max(axis=1) > mean) | (high.min(axis=1) < mean))
        assert odd <= 0.01 * len(d)


@pytest.mark.parametrize(("effect", "pairs"), [(1.0, 32), (2.0, 12)])
def test_planted_effects_are_found_with_their_sign(nulls, effect, pairs):
    found = directions(nulls[:2000, :pairs] - effect, 0.01)
    assert np.mean(found == -1) > 0.9 and not np.any(found == 1)
