"""Learning rates: every arm its own, on seeds of its own, with a certificate that can fail."""

import math

import pytest

from mytnano.lab.plan import Arm
from mytnano.lab.tuning import FIRST_SEED, certify, grid_rate, tune_rates
from mytnano.ladder.tune import conclude, rate

ARMS = (Arm("baseline", None), Arm("relu", None))
BEST = {"baseline": 1.0, "relu": 2.5}


def parabola(keys, noise=0.0, curvature=0.02):
    return {
        (name, e, seed): 2.0 + curvature * (e - BEST[name] - noise * (seed - FIRST_SEED)) ** 2
        for name, e, seed in keys
    }


def test_each_arm_gets_its_own_rate():
    asked = []

    def measure(keys):
        asked.extend(keys)
        return parabola(keys)

    rates = tune_rates(ARMS, 2, 0.3, measure)
    for name, best in BEST.items():
        assert math.log2(rates[name].lr / 1e-3) == pytest.approx(best, abs=0.01)
        assert rates[name].fair and rates[name].reason == ""
        assert rates[name].cost == pytest.approx(0, abs=1e-4)
    assert {seed for *_, seed in asked} == {FIRST_SEED, FIRST_SEED + 1}
    assert len(asked) == len(set(asked))


def test_seeds_that_disagree_cost_the_certificate():
    rates = tune_rates(ARMS[:1], 2, 0.3, lambda keys: parabola(keys, noise=1.0))
    (found,) = rates.values()
    assert found.error == pytest.approx(0.5, rel=0.02)  # vertices one octave apart
    assert found.cost == pytest.approx(100 * 0.02 * 0.25 / 2.0, rel=0.1)
    assert not found.fair and "may still cost" in found.reason
    assert tune_rates(ARMS[:1], 2, 3.0, lambda keys: parabola(keys, noise=1.0))["baseline"].fair


def losses(values):
    return {float(e): value for e, value in values.items()}


def test_why_a_rate_is_not_certified():
    edge = conclude({5: 2.2, 6: 2.1, 7: 2.0})
    assert "edge" in certify(edge, [], 0.3).reason
    lonely = conclude({1: math.inf, 2: 2.0, 3: math.inf})
    assert "diverged" in certify(lonely, [], 0.3).reason
    sharp = losses({1: 2.2, 2: 2.0, 3: 2.2})
    assert "one tuning seed" in certify(conclude(sharp), [sharp], 0.3).reason
    flat = losses({1: 2.0005, 2: 2.0, 3: 2.0005})
    assert certify(conclude(flat), [flat], 0.3).fair


def test_rates_are_given_with_three_digits():
    assert grid_rate(1) == 2e-3 == rate(1)
    assert grid_rate(0.123) == float(f"{rate(0.123):.3g}")
