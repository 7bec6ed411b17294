"""Simulate the rule that decides verdicts, and write results/stats/null.json; about a minute.

    python scripts/simulate.py            as published
    python scripts/simulate.py FILE N     another file, N experiments of each kind

Every experiment looks after each of 3 to 64 pairs and keeps what it once found. Equal arms show how
often the rule is wrong, planted differences what it finds and how soon. Everything is seeded: the
same numbers come out on every machine with the same NumPy.
"""

from __future__ import annotations

import importlib.metadata
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.stats import eprocess, fixed
from mytnano.stats.differences import Array
from mytnano.stats.holm import holm
from mytnano.stats.power import DRAWS, POWER, minimum_detectable

FILE = Path(__file__).resolve().parent.parent / "results/stats/null.json"
EXPERIMENTS = 50_000
LOOKS = 64
BLOCK = 5_000
ARMS = 5
MARGIN = 1.0
"""Of the simulated equivalence; a deviation of a quarter of it lets many arms come near."""

Row = dict[str, Any]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]

NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "Student t, 3 degrees (heavy tails)": lambda rng, shape: rng.standard_t(3, shape),
    "exponential (skewed)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "two values (coin)": lambda rng, shape: rng.choice([-1.0, 1.0], size=shape),
}


def blocks(experiments: int, noise: Noise, *shape: int) -> list[Array]:
    """Draws of shape (experiments, *shape), in blocks that fit the memory; the same every time."""
    rng = np.random.default_rng(2026)
    sizes = [min(BLOCK, experiments - start) for start in range(0, experiments, BLOCK)]
    return [noise(rng, (size, *shape)) for size in sizes]


def counted(wrong: int, experiments: int, **what: Any) -> Row:
    """A row with a count and its exact 95 % limits (Clopper & Pearson 1934)."""
    limits = stats.binomtest(wrong, experiments).proportion_ci(0.95, "exact")
    low, high = float(limits.low), float(limits.high)
    return {**what, "experiments": experiments, "wrong": wrong, "low": low, "high": high}


def largest(d: Array, g: float) -> Array:
    """Logarithm of the largest Bayes factor at any look: (..., LOOKS) -> (...)."""
    return eprocess.evidence(d, g).max(axis=-1)


def false_differences(experiments: int) -> list[Row]:
    """Equal arms that some look calls different."""
    rows = []
    for name, noise in NOISES.items():
        for g in (1.0, 2.0, 4.0) if name == "normal" else (eprocess.G,):
            found = np.concatenate([largest(d, g) for d in blocks(experiments, noise, LOOKS)])
            for alpha in (0.05, 0.01):
                wrong = int(np.sum(found >= -math.log(alpha)))
                rows.append(counted(wrong, experiments, noise=name, g=g, alpha=alpha))
    return rows


def false_families(experiments: int) -> list[Row]:
    """Questions with several arms, all equal to a baseline that they share."""
    draws = blocks(experiments, NOISES["normal"], ARMS + 1, LOOKS)
    smallest = np.concatenate([smallest_p(d[:, 1:] - d[:, :1]) for d in draws])
    return [
        counted(int(np.sum(smallest <= alpha)), experiments, arms=ARMS, alpha=alpha)
        for alpha in (0.05, 0.01)
    ]


def smallest_p(d: Array) -> Array:
    """The smallest p-value that Holm leaves to any arm at any look: (..., ARMS, LOOKS) -> (...)."""
    found = largest(d, eprocess.G)
    return np.array([holm(np.exp(-np.maximum(family, 0.0))).min() for family in found])


def false_equivalences(experiments: int) -> list[Row]:
    """Arms that differ by exactly the margin, and that some look calls equivalent."""
    rows = []
    for alpha in (0.05, 0.01):
        wrong = 0
        for noise in blocks(experiments, NOISES["normal"], LOOKS):
            wrong += int(np.sum(called_equivalent(MARGIN + MARGIN * noise / 4, alpha)))
        rows.append(counted(wrong, experiments, alpha=alpha))
    return rows


def called_equivalent(d: Array, alpha: float) -> np.ndarray:
    """Whether some look calls an arm equivalent: (..., LOOKS) -> (...)."""
    low, high = eprocess.intervals(d, alpha)
    return (low.max(-1) >= -MARGIN) & (high.min(-1) <= MARGIN)


def peeking_t(experiments: int) -> list[Row]:
    """What the paired t-test does to equal arms if it is looked at as often."""
    rows = []
    for alpha in (0.05, 0.01):
        wrong = 0
        for d in blocks(experiments, NOISES["normal"], LOOKS):
            looks = range(eprocess.FEWEST, LOOKS + 1)
            wrong += int(np.sum(np.any([fixed.directions(d[:, :n], alpha) for n in looks], axis=0)))
        rows.append(counted(wrong, experiments, alpha=alpha))
    return rows


def planted(experiments: int, alpha: float = 0.01) -> list[Row]:
    """True differences, in paired deviations: how many are found by how many pairs."""
    rows = []
    counts = (6, 8, 12, 16, 24, 32, 64)
    for effect in (0.5, 1.0, 2.0):
        for g in (1.0, 2.0, 4.0):
            draws = blocks(experiments, NOISES["normal"], LOOKS)
            first = np.concatenate([first_look(effect + noise, alpha, g) for noise in draws])
            found = {str(n): float(np.mean(first <= n)) for n in counts}
            median = float(np.median(first))
            rows.append(
                {
                    "effect": effect, "g": g, "alpha": alpha, "experiments": experiments,
                    "found": found, "median": median if median <= LOOKS else None,
                }
            )  # fmt: skip
    return rows


def first_look(d: Array, alpha: float, g: float) -> Array:
    """The number of pairs at which a difference is first found; infinite if never."""
    hits = eprocess.evidence(d, g) >= -math.log(alpha)
    return np.where(hits.any(-1), hits.argmax(-1) + 1.0, np.inf)


def detectable() -> list[Row]:
    """The least effect found with probability 0.8, in paired deviations, beside the paired t's."""
    rows = []
    for n in (4, 5, 6, 8, 10, 12, 16, 24, 32, 64):
        values = {
            f"{name}, alpha {alpha:g}": minimum_detectable(n, alpha, classic=classic)
            for alpha in (0.05, 0.01)
            for name, classic in (("e-process", False), ("paired t", True))
        }
        rows.append({"pairs": n, **{k: v if math.isfinite(v) else None for k, v in values.items()}})
    return rows


def study(experiments: int) -> dict[str, Any]:
    """Everything, as plain values."""
    known = environment("cpu", "fp64")
    used = ("hardware", "cores", "system", "python", "numpy", "mytnano", "commit", "date")
    return {
        "environment": {k: known[k] for k in used} | {"scipy": importlib.metadata.version("scipy")},
        "looks": [eprocess.FEWEST, LOOKS],
        "different": false_differences(experiments),
        "families": false_families(experiments),
        "equivalent": false_equivalences(experiments),
        "peeking_t": peeking_t(min(experiments, 10_000)),
        "planted": planted(min(experiments, 20_000)),
        "detectable": {"power": POWER, "draws": DRAWS, "rows": detectable()},
    }


def main(arguments: list[str]) -> int:
    """Exit code 0: written; 2: a mistake."""
    if len(arguments) not in (0, 2) or not all(word.isdigit() for word in arguments[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    file = Path(arguments[0]) if arguments else FILE
    atomic_write_json(file, study(int(arguments[1]) if arguments else EXPERIMENTS))
    print(f"{file.name} written; `make docs` shows it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
