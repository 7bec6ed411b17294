"""A fair learning rate for every arm, and how sure one is that it is fair.

Each arm gets its own rate by the rule of the ladder (:mod:`mytnano.ladder.tune`): the same grid in
powers of two, extended until the best point is interior, then the vertex of a parabola, on
validation text and on seeds that no later run uses. An arm tuned better than the other would win by
its tuning, so what a mistuned rate may still cost is held against the margin.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from mytnano.lab.plan import Arm
from mytnano.ladder.tune import Tuned, conclude, rate, search

FIRST_SEED = 1000
"""Tuning seeds count from here; confirmed runs from 0."""

SHARE = 0.25
"""Share of the margin that the rest of mistuning may cost (Wortsman et al. 2023 measure that cost
as learning-rate sensitivity)."""

Key = tuple[str, float, int]
"""Arm, number of the rate on the grid, seed."""
Measure = Callable[[list[Key]], dict[Key, float]]


@dataclass(frozen=True)
class Rate:
    """An arm's learning rate and its certificate.

    Attributes:
        lr: the rate of the confirmed runs.
        tuned: how it was found.
        error: standard error of its logarithm to base 2, from the tuning seeds; None with one seed.
        cost: percent of BPB that this error may still cost; None if it cannot be told.
        fair: interior or flat, and the cost within its share of the margin.
        reason: why it is not, in a few words.
    """

    lr: float
    tuned: Tuned
    error: float | None
    cost: float | None
    fair: bool
    reason: str = ""


def tune_rates(
    arms: tuple[Arm, ...], seeds: int, margin: float, measure: Measure
) -> dict[str, Rate]:
    """Tune every arm.

    Args:
        seeds: tuning seeds of each point.
        margin: percent of BPB that would not matter.
        measure: validation BPB of (arm, grid number, seed), infinite where a run diverged.
    """
    losses: dict[Key, float] = {}

    def means(wanted: list[tuple[str, float]]) -> dict[tuple[str, float], float]:
        keys = [(*pair, FIRST_SEED + seed) for pair in wanted for seed in range(seeds)]
        losses.update(measure(keys))
        return {
            (name, e): statistics.fmean(losses[name, e, FIRST_SEED + s] for s in range(seeds))
            for name, e in wanted
        }

    found = search([arm.name for arm in arms], means)
    return {name: certify(tuned, _by_seed(name, losses), margin) for name, tuned in found.items()}


def _by_seed(name: str, losses: dict[Key, float]) -> list[dict[float, float]]:
    seeds = sorted({seed for arm, _, seed in losses if arm == name})
    return [{e: loss for (arm, e, s), loss in losses.items() if (arm, s) == (name, seed)}
            for seed in seeds]  # fmt: skip


def certify(tuned: Tuned, by_seed: list[dict[float, float]], margin: float) -> Rate:
    """Whether a rate is good enough for the question.

    The vertex of each tuning seed on its own shows how uncertain the rate is; the parabola turns an
    error ``e`` of log2(rate) into a loss of ``curvature * e^2``.
    """
    lowest = min((loss for _, loss in tuned.points), default=math.inf)
    if tuned.flat:
        return Rate(tuned.lr, tuned, None, 0.0, True)
    if not tuned.interior:
        return Rate(tuned.lr, tuned, None, None, False, "its best rate is at the edge of the grid")
    if tuned.curvature is None or not math.isfinite(lowest):
        return Rate(tuned.lr, tuned, None, None, False, "rates beside the best one diverged")
    if len(by_seed) < 2:
        return Rate(tuned.lr, tuned, None, None, False, "one tuning seed tells no error")
    vertices = [math.log2(conclude(losses).lr) for losses in by_seed]
    error = statistics.stdev(vertices) / math.sqrt(len(vertices))
    cost = 100 * tuned.curvature * error**2 / lowest
    if cost <= SHARE * margin:
        return Rate(tuned.lr, tuned, error, cost, True)
    reason = f"its rate may still cost {cost:.2g} %, more than {SHARE * margin:.2g} %"
    return Rate(tuned.lr, tuned, error, cost, False, reason)


def grid_rate(exponent: float) -> float:
    """The grid's rate as runs are given it."""
    return float(f"{rate(exponent):.3g}")
