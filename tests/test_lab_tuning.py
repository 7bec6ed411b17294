"""Learning rates: every arm its own, on seeds of its own, with a certificate that can fail."""

import math

import numpy as np
import pytest

from mytnano.lab.plan import Arm
from mytnano.lab.tuning import FIRST_SEED, certify, scatter, tune_rates
from mytnano.ladder.tune import conclude

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
    (found,) = tune_rates(ARMS[:1], 2, 0.3, lambda keys: parabola(keys, noise=1.0)).values()
    assert not found.fair and "may still cost" in found.reason and found.cost > 0.075
    (lax,) = tune_rates(ARMS[:1], 2, 9.0, lambda keys: parabola(keys, noise=1.0)).values()
    assert lax.fair


def test_the_error_of_a_rate_is_that_of_simulated_vertices():
    rng = np.random.default_rng(0)
    a, b, c = 2.03, 2.0, 2.05
    noise = 0.001
    tuned = conclude({0: a, 1: b, 2: c})
    draws = np.array([a, b, c]) + noise / math.sqrt(2) * rng.standard_normal((20_000, 3))
    k = (draws[:, 0] + draws[:, 2]) / 2 - draws[:, 1]
    vertices = (draws[:, 0] - draws[:, 2]) / (4 * k)
    found = certify(tuned, noise, 2, 0.3)
    assert found.error == pytest.approx(vertices.std(), rel=0.03)
    assert found.cost == pytest.approx(100 * tuned.curvature * found.error**2 / b, rel=1e-6)


def test_scatter_is_what_rate_and_seed_do_not_explain():
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(400):
        rates, seeds = rng.normal(0, 5, (4, 1)), rng.normal(0, 5, (1, 3))
        tables.append(rates + seeds + 0.1 * rng.standard_normal((4, 3)))
    assert scatter(tables) == pytest.approx(0.1, rel=0.05)
    assert scatter([np.zeros((4, 1))]) is None and scatter([]) is None


@pytest.mark.filterwarnings("error")
def test_an_arm_that_always_diverged_tells_nothing_of_the_scatter():
    table = np.random.default_rng(0).normal(2, 0.1, (3, 3))
    assert scatter([table, np.zeros((0, 3)), np.zeros((1, 3))]) == scatter([table])
    assert scatter([np.zeros((0, 3))]) is None

    def measure(keys):
        found = parabola(keys, noise=1.0)
        return {
            key: math.inf if key[0] == "relu" and key[2] == FIRST_SEED else loss
            for key, loss in found.items()
        }

    rates = tune_rates(ARMS, 2, 0.3, measure)
    (alone,) = tune_rates(ARMS[:1], 2, 0.3, lambda keys: parabola(keys, noise=1.0)).values()
    assert rates["baseline"] == alone
    assert not rates["relu"].fair


def test_why_a_rate_is_not_certified():
    edge = conclude({5: 2.2, 6: 2.1, 7: 2.0})
    assert "edge" in certify(edge, 0.01, 2, 0.3).reason
    lonely = conclude({1: math.inf, 2: 2.0, 3: math.inf})
    assert "diverged" in certify(lonely, 0.01, 2, 0.3).reason
    hopeless = conclude({1: math.inf, 2: math.inf, 3: math.inf})
    assert certify(hopeless, 0.01, 2, 0.3).reason == "every rate that was tried diverged"
    sharp = conclude({1: 2.2, 2: 2.0, 3: 2.2})
    assert "a single tuning seed" in certify(sharp, None, 1, 0.3).reason
    assert certify(sharp, 1e-4, 2, 0.3).fair


def test_flat_is_fair_only_if_an_octave_costs_next_to_nothing():
    flat = conclude({1: 2.0008, 2: 2.0, 3: 2.0012})
    found = certify(flat, None, 1, 0.3)
    assert found.fair and found.cost == pytest.approx(0.06)
    assert not certify(flat, None, 1, 0.05).fair
    edge = conclude({5: 2.0004, 6: 2.0002, 7: 2.0})
    assert not certify(edge, 1e-6, 2, 0.3).fair


def test_a_rate_costs_no_more_than_its_neighbours_show():
    noise = 0.03
    tuned = conclude({1: 2.0002, 2: 2.0, 3: 2.004})  # a curve as good as level, hidden by noise
    found = certify(tuned, noise, 2, 0.3)
    assert found.error == 1.0
    shown = 100 * (2.004 / 2.0 - 1) + 100 * noise / 2.0
    assert found.cost == pytest.approx(shown) and not found.fair
    assert certify(tuned, noise, 2, 4 * 1.01 * shown).fair


def test_noise_is_that_of_rates_near_the_best_one():
    """Where training breaks, at a rate far off, seeds scatter as they do nowhere else."""
    wild = {3: (4.0, 2.05), 4: (9.2, 7.8), 5: (2.3, 5.0)}

    def measure(keys):
        found = parabola(keys, curvature=0.02)
        noisy = {key: loss + 0.001 * (-1) ** (key[1] + key[2]) for key, loss in found.items()}
        for key in keys:
            if key[0] == "baseline" and key[1] in wild:
                noisy[key] = wild[key[1]][key[2] - FIRST_SEED]
        return noisy

    both = tune_rates(ARMS, 2, 0.3, measure)
    (alone,) = tune_rates(ARMS[1:], 2, 0.3, measure).values()
    assert both["relu"].error == pytest.approx(alone.error, rel=0.3) and both["relu"].error < 0.1
    assert all(rate.fair for rate in both.values())
