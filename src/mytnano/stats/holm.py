"""Several arms, one question: Holm's step-down procedure.

If m arms are held against one baseline, the chance that any of them is wrongly called different
stays at most ``alpha``: the smallest p-value is held against ``alpha / m``, the next one against
``alpha / (m - 1)``, and so on until one fails (Holm 1979). It needs no assumption on how the arms
depend on each other, which they do, as they share a baseline.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mytnano.stats.differences import Array


def holm(p: npt.ArrayLike) -> Array:
    """Adjusted p-values, in the order given: zero is rejected where one is at most ``alpha``.

    An arm that could not be tested belongs to the family with ``p = 1``.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def levels(p: npt.ArrayLike, alpha: float) -> Array:
    """The level at which each arm was held: its step's, or the failed step's if not rejected."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    rejected = int(np.sum(holm(p) <= alpha))
    steps = np.minimum(np.arange(p.size), rejected)
    found = np.empty_like(p)
    found[order] = alpha / (p.size - np.minimum(steps, p.size - 1))
    return found
