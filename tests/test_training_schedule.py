"""The learning rate of every step."""

import math
from itertools import pairwise

import pytest

from mytnano.config import OptimConfig
from mytnano.training.schedule import learning_rate


def rates(steps, **optim):
    return [learning_rate(OptimConfig(lr=0.5, **optim), step, steps) for step in range(steps)]


def test_constant():
    assert rates(7) == [0.5] * 7


def test_warmup_is_linear_and_never_zero():
    assert rates(10, warmup=0.4)[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates(10, warmup=0.4)[4:] == [0.5] * 6
    assert rates(10, warmup=0.001) == [0.5] * 10  # rounds to no step


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine(final):
    got = rates(101, schedule="cosine", final_lr=final)
    share = [(1 + math.cos(math.pi * step / 100)) / 2 for step in range(101)]
    assert got == pytest.approx([0.5 * (final + (1 - final) * s) for s in share])
    assert got[0] == 0.5 and got[-1] == pytest.approx(0.5 * final)


def test_warmup_then_cosine():
    got = rates(50, schedule="cosine", warmup=0.2)
    assert got[:11] == pytest.approx([0.5 * (step + 1) / 11 for step in range(11)])
    assert max(got) == got[10] == 0.5
    assert got[10:] == sorted(got[10:], reverse=True) and got[-1] == pytest.approx(0)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_linear(final):
    got = rates(101, schedule="linear", final_lr=final)
    share = [1 - step / 100 for step in range(101)]
    assert got == pytest.approx([0.5 * (final + (1 - final) * s) for s in share])
    warmed = rates(50, schedule="linear", warmup=0.2, final_lr=final)
    assert warmed[:11] == pytest.approx([0.5 * (step + 1) / 11 for step in range(11)])
    falls = [one - other for one, other in pairwise(warmed[10:])]
    assert falls == pytest.approx([falls[0]] * 39) and warmed[-1] == pytest.approx(0.5 * final)


def test_wsd_is_constant_until_it_falls_in_a_straight_line():
    got = rates(100, schedule="wsd", warmup=0.1, decay=0.3, final_lr=0.1)
    assert got[:10] == pytest.approx([0.5 * (step + 1) / 11 for step in range(10)])
    assert got[10:70] == [0.5] * 60
    falls = [one - other for one, other in pairwise(got[69:])]
    assert falls == pytest.approx([0.5 * 0.9 / 30] * 30) and got[-1] == pytest.approx(0.05)
    assert rates(101, schedule="wsd", decay=1.0) == pytest.approx(rates(101, schedule="linear"))


def test_a_warmup_and_a_decay_that_overlap_are_refused():
    OptimConfig(schedule="wsd", warmup=0.5, decay=0.5)
    OptimConfig(schedule="linear", warmup=0.9)
    with pytest.raises(ValueError, match=r"warmup 0.6 and decay 0.5 of wsd overlap"):
        OptimConfig(schedule="wsd", warmup=0.6, decay=0.5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shortest_runs(schedule, steps):
    got = rates(steps, schedule=schedule, warmup=0.4, final_lr=0.1)
    assert len(got) == steps and all(0 < rate <= 0.5 for rate in got)
