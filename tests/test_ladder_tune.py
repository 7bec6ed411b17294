"""The search for a learning rate, on losses that are known."""

import math

import pytest

from mytnano.designs.rates import shipped
from mytnano.ladder.tune import FLAT, MOST_POINTS, conclude, rate, search


def tuned(loss):
    """Search one design whose loss is a function of the grid's exponent; also the rounds."""
    rounds = []

    def measure(wanted):
        rounds.append([exponent for _, exponent in wanted])
        return {(id, exponent): loss(exponent) for id, exponent in wanted}

    return search(["it"], measure)["it"], rounds


def parabola(best, curvature=0.05):
    return lambda exponent: 2.0 + curvature * (exponent - best) ** 2


@pytest.mark.parametrize("best", [-2.3, 0.0, 1.6, 2.0, 4.4])
def test_the_vertex_of_a_parabola_is_found(best):
    found, rounds = tuned(parabola(best))
    assert found.lr == pytest.approx(1e-3 * 2**best, rel=0.005)
    assert found.interior and not found.flat
    assert found.curvature == pytest.approx(0.05)
    assert len(found.points) == sum(map(len, rounds)) <= MOST_POINTS
    assert found.points == sorted(found.points)


def test_a_loss_that_falls_for_ever_stops_at_the_border():
    found, _ = tuned(lambda exponent: 3.0 - 0.1 * exponent)
    assert not found.interior and len(found.points) <= MOST_POINTS
    assert found.lr == max(lr for lr, _ in found.points)
    found, _ = tuned(lambda exponent: 3.0 + 0.1 * exponent)
    assert not found.interior and found.lr == min(lr for lr, _ in found.points)


def test_a_rate_that_does_not_matter_is_called_flat():
    found, _ = tuned(parabola(2, curvature=FLAT / 100))
    assert found.flat
    assert not tuned(parabola(2, curvature=FLAT * 2))[0].flat


def test_a_diverged_neighbour_gives_no_vertex():
    found, _ = tuned(lambda exponent: math.inf if exponent > 2 else 2.0 + 0.1 * (2 - exponent))
    assert found.lr == rate(2) and found.curvature is None and not found.flat


def test_designs_are_measured_together_and_apart():
    asked = []

    def measure(wanted):
        asked.append(wanted)
        best = {"low": 0, "high": 4}
        return {(id, e): parabola(best[id])(e) for id, e in wanted}

    found = search(["low", "high"], measure)
    assert {id for id, _ in asked[0]} == {"low", "high"}
    assert (found["low"].lr, found["high"].lr) == (pytest.approx(1e-3), pytest.approx(0.016))
    assert len(asked) < 6, "few rounds, so that each can fill all workers"


@pytest.mark.parametrize("broken", [8.5, math.inf])
def test_a_neighbour_that_exploded_moves_nothing(broken):
    found = conclude({0: 4.435, 1: 4.416, 2: broken})
    assert found.lr == rate(1) and found.curvature is None and found.interior


def test_the_shipped_rates_beside_an_explosion_are_known_to_be_of_the_former_rule():
    """The published runs had them; every other shipped rate is what the rule gives."""
    former = {"stack", "post-norm"}
    for id, entry in shipped()["rungs"].items():
        losses = {
            round(math.log2(lr / rate(0))): math.inf if loss is None else loss
            for lr, loss in entry["points"]
        }
        same = conclude(losses).lr == entry["lr"]
        assert same == (id not in former), id
