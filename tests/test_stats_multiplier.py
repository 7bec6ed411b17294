"""Compute multipliers of curves whose answer is known."""

import numpy as np
import pytest

from mytnano.errors import UserError
from mytnano.stats import Multiplier, compute_multiplier
from mytnano.stats.multiplier import loss_at

LEVELS = [0.25, 0.5, 1.0, 2.0, 4.0]


def power_law(compute):
    return 3.0 * compute**-0.1


@pytest.mark.parametrize("saved", [0.3, 0.5, 0.9, 1.0, 1.7, 3.9])
@pytest.mark.parametrize("unit", [1.0, 1e15])
def test_a_power_law_is_inverted(saved, unit):
    curve = [unit * level for level in LEVELS], [power_law(level) for level in LEVELS]
    found = compute_multiplier(*curve, power_law(saved), unit)
    assert found.value == pytest.approx(saved, rel=1e-6) and found.beyond == ""
    shuffled = [list(reversed(part)) for part in curve]
    assert compute_multiplier(*shuffled, power_law(saved), unit) == found


def test_the_compute_spent_counts():
    losses = [power_law(level) for level in LEVELS]
    assert compute_multiplier(LEVELS, losses, power_law(2.0), 0.5).value == pytest.approx(4.0)


def test_beyond_the_curve_only_its_end_is_claimed():
    losses = [power_law(level) for level in LEVELS]
    assert str(compute_multiplier(LEVELS, losses, 1.0, 1.0)) == "> 4x"
    assert str(compute_multiplier(LEVELS, losses, 9.0, 1.0)) == "< 1/4x"
    assert str(compute_multiplier(LEVELS, losses, power_law(1.18), 1.0)) == "1.18x"
    assert str(Multiplier(0.5)) == "0.5x"


def test_a_bent_curve_stays_monotone_between_its_points():
    losses = [3.0, 2.99, 2.2, 2.19, 2.0]
    values = [compute_multiplier(LEVELS, losses, loss, 1.0).value for loss in np.linspace(3, 2, 99)]
    assert np.all(np.diff(values) > 0)
    assert values[0] == pytest.approx(0.25) and values[-1] == pytest.approx(4.0)


def test_a_small_rise_is_pooled():
    losses = [3.0, 2.7, 2.5, 2.51, 2.3]
    found = compute_multiplier(LEVELS, losses, (2.5 * 2.51) ** 0.5, 1.0)
    assert found.pooled and found.value == pytest.approx(2**0.5), "the middle of the pool"
    assert not compute_multiplier(LEVELS, [3.0, 2.7, 2.5, 2.4, 2.3], 2.45, 1.0).pooled


@pytest.mark.parametrize(
    "losses", [[3.0, 2.5, 2.9, 2.4, 2.3], [2.3, 2.4, 2.5, 2.7, 3.0], [2.0] * 5]
)
def test_a_curve_that_does_not_fall_is_refused(losses):
    with pytest.raises(UserError, match="does not fall with compute"):
        compute_multiplier(LEVELS, losses, 2.4, 1.0)


@pytest.mark.parametrize(
    ("compute", "losses"), [([1.0], [2.0]), ([1.0, np.nan], [2.0, 1.0]), ([1.0, 2.0], [2.0, 0.0])]
)
def test_a_curve_needs_two_amounts_and_positive_losses(compute, losses):
    with pytest.raises(UserError, match="at two amounts of compute"):
        compute_multiplier(compute, losses, 1.5, 1.0)


def test_a_loss_is_known_up_to_the_last_amount_that_was_measured():
    compute, losses = [0.25, 0.5, 1, 2, 4], [1.3, 1.2, 1.1, 1.05, 1.052]  # the last two are level
    assert loss_at(compute, losses, 1.0) == pytest.approx(1.1)
    assert loss_at(compute, losses, 3.5) == loss_at(compute, losses, 4.0) == pytest.approx(1.051)
    with pytest.raises(UserError, match="outside of those at which the baseline was run"):
        loss_at(compute, losses, 4.1)
