"""Evidence that may be looked at after every seed: a Bayes factor that is an e-process.

Differences ``d_1 .. d_n`` are taken as independent draws of a normal distribution with mean ``mu``
and deviation ``sigma``, both unknown. The hypothesis ``mu = 0`` is held against one in which the
effect ``mu / sigma`` is itself normal around 0 with variance ``g``; ``sigma`` has the density
``1 / sigma`` (right Haar) under both. The ratio of the two marginal likelihoods is, with
``v = n - 1`` and Student's paired ``t``,

    BF_n = (1 + n g)^(-1/2) [(1 + t^2 / v) / (1 + t^2 / (v (1 + n g)))]^((v + 1) / 2)

It depends on the differences only through their ratios, and under ``mu = 0`` it is a martingale of
mean 1, so the chance that it ever reaches ``1 / alpha`` is at most ``alpha`` (Ville), however often
one looks and whatever makes one stop. Turned around, the means that it does not reject form an
interval that contains ``mu`` for all ``n`` at once with probability ``1 - alpha``.

Sources: Lai 1976 and Pérez-Ortiz, Lardy, de Heide & Grünwald 2024 (t-tests as e-processes under the
right Haar prior); Wang & Ramdas 2023, "Anytime-valid t-tests and confidence sequences for Gaussian
means with unknown variance"; Lindon, Ham, Tingley & Bojinov 2022 (the same with covariates);
Grünwald, de Heide & Koolen 2024, "Safe testing". It is not the JZS factor of Rouder et al. 2009,
whose effect has a Cauchy prior and whose value needs an integral.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mytnano.stats.differences import Array

G = 1.0
"""Prior variance of the effect in squared paired deviations: as much information as one pair.

Between 1 and 4 the choice moves little: larger values find effects of two deviations and more a
seed earlier, and those of half a deviation some seeds later: ``scripts/simulate.py``."""

FEWEST = 3
"""Pairs before which nothing is decided: with two, the spread is a guess from one number."""


@dataclass(frozen=True)
class Interval:
    """A confidence sequence at its last pair, in the unit of the differences.

    Attributes:
        low, high: ends; infinite while the evidence excludes nothing on that side.
        contradictory: no mean fits all looks; ``low`` and ``high`` are then those of the last look.
    """

    low: float
    high: float
    contradictory: bool = False


def log_bayes_factors(differences: npt.ArrayLike, g: float = G) -> Array:
    """Natural logarithm of ``BF_n`` for n = 1 .. N along the last axis; same shape as given.

    With ``rho = n mean^2 / sum of squares``, the formula above is
    ``(1 + n g)^(-1/2) (1 - rho n g / (1 + n g))^(-n / 2)``, which needs no ``t`` and holds for a
    spread of zero too: pairs that all differ by one amount give the largest value that n pairs can
    give, :func:`largest_possible`. Differences that are all zero give the smallest.
    """
    d = np.asarray(differences, np.float64)
    n = np.arange(1, d.shape[-1] + 1)
    squares = n * np.cumsum(d**2, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(squares > 0, np.cumsum(d, axis=-1) ** 2 / squares, 0.0)
    # Rounding can put a constant sequence a hair above 1.
    return -np.log1p(n * g) / 2 - n / 2 * np.log1p(-np.minimum(rho, 1.0) * n * g / (1 + n * g))


def evidence(differences: npt.ArrayLike, g: float = G) -> Array:
    """As :func:`log_bayes_factors`, minus infinity before ``FEWEST`` pairs."""
    logs = log_bayes_factors(differences, g)
    logs[..., : FEWEST - 1] = -np.inf
    return logs


def largest_possible(n: int, g: float = G) -> float:
    """Natural logarithm of the largest Bayes factor that ``n`` pairs can give."""
    return (n - 1) / 2 * math.log1p(n * g)


def fewest_pairs(alpha: float, g: float = G) -> int:
    """Pairs from which on the rule can decide at all at level ``alpha``."""
    n = FEWEST
    while largest_possible(n, g) < -math.log(alpha):
        n += 1
    return n


def largest_factor(differences: npt.ArrayLike, g: float = G, ordered: bool = True) -> float:
    """Natural logarithm of the largest Bayes factor of all looks; minus infinity before the first.

    Looks are at the first n pairs in the order in which they were run. Where that is not known
    (``ordered`` is false), only the look at all of them counts, whose factor no order changes.
    """
    logs = evidence(differences, g)
    return float(np.max(logs if ordered else logs[-1:], initial=-np.inf))


def anytime_p(differences: npt.ArrayLike, g: float = G, ordered: bool = True) -> float:
    """``min(1, 1 / max BF)``: a p-value that stays valid when one looks after every pair."""
    return math.exp(-max(0.0, largest_factor(differences, g, ordered)))


def critical_t(n: npt.ArrayLike, alpha: float, g: float = G) -> Array:
    """The ``|t|`` at which ``BF_n`` reaches ``1 / alpha``; infinite where no ``t`` does.

    Solving ``BF_n = 1 / alpha`` for ``u = t^2 / v``: with ``c = 1 + n g`` and
    ``r = (c / alpha^2)^(1 / n)``, ``(1 + u) / (1 + u / c) = r``, hence
    ``u = (r - 1) / (1 - r / c)``. The left side stays below ``c``, so there is none if ``r >= c``.
    """
    n = np.asarray(n, np.float64)
    c = 1 + n * g
    log_r = (np.log(c) - 2 * math.log(alpha)) / n
    room = -np.expm1(log_r - np.log(c))  # 1 - r / c
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(room > 0, np.expm1(log_r) / room, np.inf)
        return np.where(n > 1, np.sqrt((n - 1) * u), np.inf)


def intervals(differences: npt.ArrayLike, alpha: float, g: float = G) -> tuple[Array, Array]:
    """Ends of the means that ``BF_n`` does not reject at ``alpha``, for n = 1 .. N.

    Along the last axis, same shape as given. Infinite before ``FEWEST`` pairs, and while no ``t``
    could be rejected. Widened by what rounding may have moved, so that pairs without any spread do
    not seem to contradict each other.
    """
    d = np.asarray(differences, np.float64)
    n = np.arange(1, d.shape[-1] + 1)
    # Sums around the first value lose no digits when the spread is small beside the mean.
    rest = d - d[..., :1]
    sums = np.cumsum(rest, axis=-1)
    spread = np.maximum(np.cumsum(rest**2, axis=-1) - sums**2 / n, 0.0)
    mean, error = d[..., :1] + sums / n, np.sqrt(spread / np.maximum(n - 1, 1) / n)
    critical = critical_t(n, alpha, g)
    critical[: FEWEST - 1] = np.inf
    endless = np.isinf(critical)
    rounding = 1e-9 * np.maximum.accumulate(np.abs(d), axis=-1) + 1e-12
    half = np.where(endless, np.inf, np.where(endless, 0.0, critical) * error + rounding)
    return mean - half, mean + half


def running_interval(
    differences: npt.ArrayLike, alpha: float, g: float = G, ordered: bool = True
) -> Interval:
    """The means that no look so far has rejected at ``alpha``: the intersection over n.

    All looks are right together with probability ``1 - alpha``, so their intersection is too. It
    only ever narrows, and excludes 0 exactly when :func:`anytime_p` is at most ``alpha``, so that
    interval and decision cannot disagree. If it is empty or leaves the mean of all pairs outside,
    early and late pairs contradict each other. That is rare unless the pairs are not draws of one
    distribution; then the last look stands, marked. Pairs of unknown order have only a last look.
    """
    d = np.asarray(differences, np.float64)
    if not d.size:
        return Interval(-math.inf, math.inf)
    if not ordered:
        return last_interval(d, alpha, g)
    low, high = intervals(d, alpha, g)
    lowest, highest = float(low.max()), float(high.min())
    if lowest <= d.mean() <= highest:
        return Interval(lowest, highest)
    return replace(last_interval(d, alpha, g), contradictory=True)


def last_interval(differences: npt.ArrayLike, alpha: float, g: float = G) -> Interval:
    """The means that the last look alone does not reject."""
    low, high = intervals(differences, alpha, g)
    return Interval(float(low[-1]), float(high[-1]))


def directions(
    differences: npt.ArrayLike, alpha: float, g: float = G, ordered: bool = True
) -> npt.NDArray[np.int_]:
    """The sign that the running interval has: 1, -1, or 0 if it holds zero or is contradictory.

    For many experiments at once, as simulations need it: (..., N) -> (...). Of pairs of unknown
    order, the sign of the last look's interval.
    """
    low, high = intervals(differences, alpha, g)
    if not ordered:
        low, high = low[..., -1:], high[..., -1:]
    low, high, mean = low.max(-1), high.min(-1), np.mean(differences, axis=-1)
    return np.where((low <= mean) & (mean <= high), (low > 0).astype(int) - (high < 0), 0)
