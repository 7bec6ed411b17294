"""Holm's procedure against the closed test that it is a shortcut of."""

import itertools

import numpy as np
import pytest

from mytnano.stats.holm import holm, levels


def closed_test(p):
    """Adjusted p of each arm: the largest Bonferroni p among all sets of arms that contain it."""
    adjusted = []
    for i in range(len(p)):
        others = [j for j in range(len(p)) if j != i]
        sets = [(i, *rest) for k in range(len(p)) for rest in itertools.combinations(others, k)]
        adjusted.append(max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets))
    return adjusted


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_closed_test_over_bonferroni(seed):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0, rng.choice([0.02, 1.0]), size=rng.integers(1, 7))
    if seed % 3 == 0:
        p[: len(p) // 2] = p[-1]  # ties
    np.testing.assert_allclose(holm(p), closed_test(p))


def test_known_steps():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(levels(p, 0.05), [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])


@pytest.mark.parametrize("seed", range(10))
def test_an_arm_is_rejected_exactly_if_its_p_is_within_its_level(seed):
    p = np.random.default_rng(seed).uniform(0, 0.04, 5)
    np.testing.assert_array_equal(p <= levels(p, 0.05), holm(p) <= 0.05)


def test_one_arm_is_held_at_alpha_and_one_that_cannot_be_tested_counts():
    assert levels([0.9], 0.01) == [0.01] and levels([0.001], 0.01) == [0.01]
    np.testing.assert_allclose(holm([0.004, 1.0, 1.0]), [0.012, 1.0, 1.0])
