"""Which steps count as a spike."""

import math

import pytest

from mytnano.training.guard import FEWEST, PATIENCE, RECENT, Guard


def guard_after(losses, spreads=6.0):
    guard = Guard(spreads)
    assert all(guard.accepts(loss, 1.0) for loss in losses)
    return guard


NOISY = [3.0 + 0.1 * (-1) ** step for step in range(20)]


@pytest.mark.parametrize(
    ("loss", "norm", "accepted"),
    [
        (3.2, 1.0, True), (3.88, 1.0, True), (3.9, 1.0, False), (1.0, 1.0, True),
        (math.nan, 1.0, False), (math.inf, 1.0, False), (3.0, math.nan, False),
        (3.0, math.inf, False), (3.0, 1e9, True),
    ],
)  # fmt: skip
def test_only_upward_jumps_and_no_numbers_are_spikes(loss, norm, accepted):
    """The spread of these losses is 1.4826 x 0.1, six of them are 0.89 above the median of 3."""
    assert guard_after(NOISY).accepts(loss, norm) == accepted


def test_the_first_losses_may_jump_but_must_be_numbers():
    guard = guard_after([3.0] * (FEWEST - 1))
    assert guard.accepts(100.0, 1.0)
    assert not Guard(6.0).accepts(math.nan, 1.0)


def test_a_loss_that_hardly_moves_has_a_least_spread():
    guard = guard_after([3.0] * FEWEST)
    assert guard.accepts(3.17, 1.0) and not guard.accepts(3.19, 1.0)


def test_it_counts_and_gives_up():
    guard = guard_after(NOISY)
    for _ in range(PATIENCE - 1):
        assert not guard.accepts(math.nan, 1.0) and not guard.exhausted
    assert guard.accepts(3.0, 1.0) and guard.state["in_a_row"] == 0
    for _ in range(PATIENCE):
        assert not guard.accepts(math.nan, 1.0)
    assert guard.exhausted and guard.state["skipped"] == 2 * PATIENCE - 1


def test_a_run_that_was_stopped_has_its_patience_again():
    guard = guard_after(NOISY)
    for _ in range(PATIENCE):
        assert not guard.accepts(math.nan, 1.0)
    again = Guard(6.0, dict(guard.state))
    assert not again.exhausted and again.state["skipped"] == PATIENCE
    for _ in range(PATIENCE - 1):
        assert not again.accepts(math.nan, 1.0) and not again.exhausted
    halfway = Guard(6.0, dict(again.state))
    assert not halfway.accepts(math.nan, 1.0) and halfway.exhausted, "one that was interrupted not"


def test_state_is_all_there_is():
    guard = guard_after([*NOISY] * 5)
    assert len(guard.state["recent"]) == RECENT
    other = Guard(6.0, dict(guard.state))
    for loss in (3.3, 3.95, 3.1):
        assert guard.accepts(loss, 1.0) == other.accepts(loss, 1.0)
    assert guard.state == other.state
