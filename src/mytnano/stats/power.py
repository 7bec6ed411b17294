"""What a number of pairs can find, simulated for the very rule that decides.

A verdict of ``unresolved`` says little without the smallest true effect that the same rule, with as
many pairs and at the same level, would have found with a given probability. Draws are normal,
seeded and shared between effects, so the answer is the same every time.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mytnano.stats import eprocess, fixed
from mytnano.stats.differences import Array

POWER = 0.8
"""Chance with which a minimum detectable effect is found."""

DRAWS = 4000
"""Simulated experiments: the chance of 0.8 is then known within 0.013 (two standard errors)."""

_FEWEST_DRAWS = 100
_NUMBERS = 1_000_000
_STEPS = 12
_MOST_PAIRS = 1_000_000


def _noise(n: int) -> Array:
    """Standard normal differences of equal arms, (experiments, n).

    Fewer experiments when they are long, so that memory and time stay bounded.
    """
    experiments = max(_FEWEST_DRAWS, min(DRAWS, _NUMBERS // n))
    return np.random.default_rng(0).standard_normal((experiments, n))


@lru_cache(maxsize=256)
def minimum_detectable(
    n: int, alpha: float, g: float = eprocess.G, classic: bool = False, ordered: bool = True
) -> float:
    """Smallest effect that ``n`` pairs find with probability :data:`POWER`, in paired deviations.

    Infinite if they cannot decide at this level, whatever they show. Found by bisection, as the
    chance grows with the effect.

    Args:
        alpha: the level at which the arm is held, Holm's step included.
        g: prior variance of the e-process.
        classic: the paired t at ``n`` instead of the e-process at every pair up to ``n``.
        ordered: false where the order of the pairs is not known, so that only the last look counts.
    """
    if n < eprocess.FEWEST or not (classic or eprocess.largest_possible(n, g) > -math.log(alpha)):
        return math.inf
    noise, low, high = _noise(n), 0.0, 1.0

    def power(effect: float) -> float:
        found = (
            fixed.directions(noise + effect, alpha)
            if classic
            else eprocess.directions(noise + effect, alpha, g, ordered)
        )
        return float(np.mean(found == 1))

    while power(high) < POWER:
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if power(middle) < POWER:
            low = middle
        else:
            high = middle
    return high


def pairs_for(half_width: float, alpha: float, g: float = eprocess.G) -> int | None:
    """Pairs after which one look's interval is as narrow as that, in paired deviations.

    None if that takes more than a million.
    """
    n = eprocess.fewest_pairs(alpha, g)
    counts = np.unique(np.geomspace(n, _MOST_PAIRS, 4000).astype(int))
    narrow = eprocess.critical_t(counts, alpha, g) <= half_width * np.sqrt(counts)
    return int(counts[narrow.argmax()]) if narrow.any() else None
