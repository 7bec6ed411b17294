"""Slopes of effects over compute whose truth is known."""

import numpy as np
import pytest

from mytnano.errors import UserError
from mytnano.stats.trend import trend

COMPUTE = [1.0, 4.0, 16.0]


def planted(slope, middle=-2.0, seeds=8, noise=0.05, rng=0):
    """Differences (sizes, seeds) on a line over log2 of compute, with a part of each seed's own."""
    draws = np.random.default_rng(rng)
    x = np.log2(COMPUTE) - 2
    return middle + slope * x[:, None] + noise * draws.standard_normal((3, seeds))


def test_a_planted_slope_is_found_and_told_in_the_effects_direction():
    found = trend(COMPUTE, planted(0.3), 0.01)
    assert found.low < 0.3 < found.high and found.resolved and found.shrinks is True
    assert found.effects == pytest.approx([-2.6, -2.0, -1.4], abs=0.1)
    assert str(found).startswith("its effect shrinks by 0.3 % a doubling of compute [0.2")
    assert str(found).endswith("3 sizes over 16x compute")
    assert "grows by" in str(trend(COMPUTE, planted(-0.3), 0.01))
    assert "moves by +0." in str(trend(COMPUTE, planted(0.3, 0.0, noise=0.5, rng=2), 0.01))
    mixed = trend(COMPUTE[::-1], planted(0.3)[::-1], 0.01)
    assert mixed == found, "the order of the sizes does not matter"


def test_an_effect_that_changes_its_sign_reverses():
    found = trend(COMPUTE, planted(1.0, middle=-0.5), 0.01)
    assert found.resolved and found.reverses and found.shrinks is None
    assert str(found).startswith(
        "its effect reverses, from -2.5 % at the least compute to +1.5 % at the most, by +1 %"
    )
    faded = trend(COMPUTE, planted(0.5, middle=-1.0), 0.01)  # to about zero, of unknown sign
    assert faded.shrinks and not faded.reverses


def test_a_trend_is_in_percent():
    found = trend(COMPUTE, planted(10.0, middle=40.0), 0.01)
    assert found.slope == pytest.approx(10.5, abs=0.2), "of logarithms it would be 10"
    assert found.effects[-1] == pytest.approx(82.2, abs=0.5)


def test_no_slope_is_not_resolved():
    assert "no trend with compute is resolved" in str(trend(COMPUTE, planted(0.0), 0.01))


def test_the_interval_misses_as_often_as_it_says():
    # Sizes with different spreads, and a seed's own part at all sizes: neither is assumed away.
    draws = np.random.default_rng(1)
    spread = np.array([0.5, 1.0, 2.0])[:, None]
    missed = 0
    for _ in range(400):
        noise = spread * draws.standard_normal((3, 6)) + draws.standard_normal((1, 6))
        found = trend(COMPUTE, noise, 0.1)
        missed += not found.low <= 0 <= found.high
    assert 0.05 < missed / 400 < 0.15


def test_identical_arms_have_no_slope():
    found = trend(COMPUTE, np.zeros((3, 5)), 0.01)
    assert found.slope == 0 and not found.resolved


@pytest.mark.parametrize("compute", [[1.0, 2.0], [1.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
def test_sizes_must_be_three_and_differ(compute):
    with pytest.raises(UserError, match="a trend needs"):
        trend(compute, np.zeros((len(compute), 4)), 0.01)
