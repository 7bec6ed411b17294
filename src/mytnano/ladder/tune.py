"""One rule that finds every learning rate: a grid in powers of two, extended around its best point.

The grid grows until the best point has a neighbour on each side. The rate is then the vertex of the
parabola through the three, as losses are close to quadratic in log2(rate) there; beside a neighbour
that exploded it is the best point itself. If the best point beats everything within two octaves by
less than ``FLAT`` of its loss, the rate does not matter and the design is called flat. Losses are
validation BPB; test text is never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mytnano.words import rounded

BASE = 1e-3
START = (1, 2, 3)
"""Exponents tried first: rates 2e-3, 4e-3, 8e-3."""
LOWEST, HIGHEST = -4, 7
"""Exponents that may be tried: rates 6.25e-5 to 0.128."""
MOST_POINTS = 9
FLAT = 0.002
EXPLODED = 1.2
"""Times the best loss above which a neighbour's says that training broke, and nothing of the
curvature at the best: four blocks without residual paths had 4.4 bits at 0.002, 8.5 at 0.004."""


@dataclass(frozen=True)
class Tuned:
    """The outcome for one design.

    Attributes:
        lr: the chosen rate.
        flat: whether the choice does not matter within two octaves each way of what was tried.
        interior: whether the best point had a neighbour on each side.
        points: (rate, mean validation BPB over the tuning seeds) in ascending rate; infinite where
            a run diverged.
        curvature: second-order coefficient of the parabola, BPB per squared octave; None where
            there is none.
    """

    lr: float
    flat: bool
    interior: bool
    points: list[tuple[float, float]]
    curvature: float | None


def rate(exponent: float) -> float:
    """The grid's rate number ``exponent``; between two numbers if it is not whole."""
    return BASE * 2.0**exponent


def grid_rate(exponent: float) -> float:
    """The same as it is trained with and written: to three digits."""
    return rounded(rate(exponent))


def around(lr: float) -> list[int]:
    """Three exponents around the one next to a rate, to start from where the best is expected."""
    middle = min(max(round(math.log2(lr / BASE)), LOWEST + 1), HIGHEST - 1)
    return [middle - 1, middle, middle + 1]


def next_exponents(losses: dict[int, float], start: Sequence[int] = START) -> list[int]:
    """Exponents to measure next, given the losses so far; empty when the search is over."""
    if not losses:
        return list(start)
    if len(losses) >= MOST_POINTS:
        return []
    best = min(losses, key=lambda e: (losses[e], e))
    wanted = [e for e in (best - 1, best + 1) if e not in losses and LOWEST <= e <= HIGHEST]
    return wanted[: MOST_POINTS - len(losses)]


def exploded(loss: float | None, best: float) -> bool:
    """Whether a loss is that of a training that broke, finite or not."""
    return loss is None or loss > EXPLODED * best


def _usable(loss: float | None, best: float) -> float:
    return math.inf if exploded(loss, best) or loss is None else loss


def conclude(losses: Mapping[float, float]) -> Tuned:
    """The rate that measured losses give."""
    best = min(losses, key=lambda e: (losses[e], e))
    left, right = (_usable(losses.get(e), losses[best]) for e in (best - 1, best + 1))
    near = [losses[e] for e in losses if abs(e - best) <= 2]
    flat = max(near) - losses[best] < FLAT * losses[best]
    shift, curvature = 0.0, None
    if math.isfinite(left) and math.isfinite(right):
        curvature = (left + right) / 2 - losses[best]
        shift = (left - right) / (4 * curvature) if curvature > 0 else 0.0
    points = [(rate(e), losses[e]) for e in sorted(losses)]
    interior = best - 1 in losses and best + 1 in losses
    return Tuned(rounded(rate(best) * 2**shift), flat, interior, points, curvature)


def search(
    ids: Sequence[str],
    measure: Callable[[list[tuple[str, int]]], dict[tuple[str, int], float]],
    starts: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Tuned]:
    """Tune many designs at once.

    Args:
        ids: the designs.
        measure: takes (id, exponent) pairs, returns the mean loss of each; called in a few rounds,
            so that each round's runs can fill all workers.
        starts: exponents that a design is tried at first, where that is not ``START``.
    """
    starts = starts or {}
    losses: dict[str, dict[int, float]] = {id: {} for id in ids}
    while wanted := [
        (id, e) for id in ids for e in next_exponents(losses[id], starts.get(id, START))
    ]:
        for (id, exponent), loss in measure(wanted).items():
            losses[id][exponent] = loss
    return {id: conclude(losses[id]) for id in ids}
