"""The learning rate of every step."""

import math

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


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shortest_runs(schedule, steps):
    got = rates(steps, schedule=schedule, warmup=0.4, final_lr=0.1)
    assert len(got) == steps and all(0 < rate <= 0.5 for rate in got)
