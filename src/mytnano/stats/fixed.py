"""The classical tests, for a number of seeds that was fixed before the first look.

Looked at after every seed, they call equal arms different far more often than they promise; then
the e-process of :mod:`mytnano.stats.eprocess` is the right one.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from mytnano.stats.differences import Array
from mytnano.stats.eprocess import Interval

RESAMPLES = 2**13
"""Patterns of signs that are tried: all of them for up to 13 pairs, a fixed sample beyond."""


def paired_t(differences: npt.ArrayLike, alpha: float) -> tuple[float, Interval]:
    """Student's paired t: the two-sided p-value of a mean of zero, and the interval of the mean.

    Without any spread there is no ``t``: the p-value is then that of :func:`sign_flip`, which needs
    none, and the interval holds what that test does not reject: the one difference that all pairs
    show, or everything where so few pairs cannot reject at ``alpha``. With fewer than two pairs
    nothing is known, ``p = 1``.
    """
    d = np.asarray(differences, np.float64)
    if d.size < 2 or constant(d):
        p = sign_flip(d)
        if p > alpha:
            return p, Interval(-math.inf, math.inf)
        return p, Interval(float(d.min()), float(d.max()))
    tested = stats.ttest_1samp(d, 0.0)
    interval = tested.confidence_interval(1 - alpha)
    return float(tested.pvalue), Interval(float(interval.low), float(interval.high))


def sign_flip(differences: npt.ArrayLike) -> float:
    """Two-sided p-value of the sign-flip permutation test of the mean.

    If the arms are equal, each difference could as well have had the other sign. Assumes symmetry
    and no particular distribution. The smallest value that n pairs can give is ``2 / 2^n``.
    """
    d = np.asarray(differences, np.float64)
    if d.size < 2 or not d.any():
        return 1.0
    tested = stats.permutation_test(
        (d,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        batch=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)


def constant(differences: npt.ArrayLike) -> bool:
    """Whether all pairs differ by one amount, as far as rounding shows."""
    d = np.asarray(differences, np.float64)
    return bool(np.ptp(d) <= 1e-9 * np.abs(d).max()) if d.size else True


def directions(differences: npt.ArrayLike, alpha: float) -> npt.NDArray[np.int_]:
    """The sign of the mean where the paired t rejects zero, else 0: (..., N) -> (...)."""
    d = np.asarray(differences, np.float64)
    error = d.std(axis=-1, ddof=1) / math.sqrt(d.shape[-1])
    critical: Array = stats.t.isf(alpha / 2, d.shape[-1] - 1)
    mean = d.mean(axis=-1)
    return np.where(np.abs(mean) > critical * error, np.sign(mean), 0).astype(int)
