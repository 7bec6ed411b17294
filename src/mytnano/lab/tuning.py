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

import numpy as np

from mytnano.lab.plan import Arm
from mytnano.ladder.tune import EXPLODED, Tuned, search

FIRST_SEED = 1_000_000
"""Tuning seeds count from here; confirmed runs from 0, and there are fewer."""

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
        error: standard error of its logarithm to base 2, at most one octave; None if unknown, or
            if flat.
        cost: percent of BPB that this error, or if flat an octave, may cost; None if unknown.
        fair: interior and the cost within its share of the margin, or so flat that an octave of
            mistuning costs no more.
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
    noise = scatter([_near_best(name, losses) for name in found])
    return {name: certify(tuned, noise, seeds, margin) for name, tuned in found.items()}


def _near_best(name: str, losses: dict[Key, float]) -> np.ndarray:
    """An arm's losses at its best rate and the two beside it, (rates, seeds).

    Rates at which a run broke are left out: seeds scatter there far more than at the best one.
    """
    rates = sorted({e for arm, e, _ in losses if arm == name})
    seeds = sorted({seed for arm, _, seed in losses if arm == name})
    table = {e: [losses[name, e, seed] for seed in seeds] for e in rates}
    best = min(rates, key=lambda e: statistics.fmean(table[e]))
    whole = EXPLODED * statistics.fmean(table[best])
    near = [table[e] for e in (best - 1, best, best + 1) if e in table]
    rows = [row for row in near if max(row) <= whole < math.inf]
    return np.array(rows).reshape(-1, len(seeds))


def scatter(tables: list[np.ndarray]) -> float | None:
    """Standard deviation of a loss beyond what its rate and its seed explain; None if unknown.

    Pooled over the arms: what is left of (rates, seeds) after both means are taken out. A seed's
    own part moves all rates alike, so it does not move the best one.
    """
    squares, degrees_of_freedom = 0.0, 0
    for table in tables:
        rates, seeds = table.shape
        if rates < 2:  # too few rates at which every seed was trained to the end
            continue
        rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
        squares += float((rest**2).sum())
        degrees_of_freedom += (rates - 1) * (seeds - 1)
    return math.sqrt(squares / degrees_of_freedom) if degrees_of_freedom > 0 else None


def certify(tuned: Tuned, noise: float | None, seeds: int, margin: float) -> Rate:
    """Whether a rate is good enough for the question.

    The vertex of the parabola through losses ``a, b, c`` lies ``(a - c) / (4 k)`` octaves from the
    middle one, with ``k = (a + c) / 2 - b``; the noise of the three gives it an error ``e``, and
    the parabola turns that into a loss of ``k e^2``. That holds for errors that are small beside
    the octave between two rates. Where noise hides the curvature, ``e`` has no bound, but the best
    rate has a worse one measured an octave to each side: the error is then one octave, and the
    cost at most the difference that these two show, with its noise.

    Args:
        noise: from :func:`scatter`, of one run. seeds: runs behind each point.
        margin: percent of BPB that would not matter.
    """
    best = min(tuned.points, key=lambda point: point[1])
    if not math.isfinite(best[1]):
        return Rate(tuned.lr, tuned, None, None, False, "every rate that was tried diverged")
    allowed = SHARE * margin
    near = [loss for lr, loss in tuned.points if abs(math.log2(lr / best[0])) < 1.01]
    spread = 100 * (max(near) / best[1] - 1)  # percent that an octave of mistuning costs
    if len(near) == 3 and spread <= allowed:
        return Rate(tuned.lr, tuned, None, spread, True)
    if not tuned.interior:
        return Rate(tuned.lr, tuned, None, None, False, "its best rate is at the edge of the grid")
    if tuned.curvature is None or tuned.curvature <= 0:
        return Rate(tuned.lr, tuned, None, None, False, "rates beside the best one diverged")
    if noise is None:
        return Rate(
            tuned.lr,
            tuned,
            None,
            None,
            False,
            "the error cannot be estimated from a single tuning seed",
        )
    k, shift = tuned.curvature, math.log2(tuned.lr / best[0])
    deviation = noise / math.sqrt(seeds)  # of a point
    error = deviation * math.sqrt(1 / 8 + 1.5 * shift**2) / k
    cost = 100 * k * error**2 / best[1]
    if error > 1:
        error, cost = 1.0, min(cost, spread + 100 * math.sqrt(2) * deviation / best[1])
    if cost <= allowed:
        return Rate(tuned.lr, tuned, error, cost, True)
    reason = f"its rate may still cost {cost:.2g} %, more than {allowed:.2g} %"
    return Rate(tuned.lr, tuned, error, cost, False, reason)
