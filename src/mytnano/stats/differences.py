"""Differences of runs that share a seed, in percent of the baseline.

An arm and the baseline of one seed start from the same weights and read the same text, so what the
seed does to both cancels in their difference. Differences are taken in logarithms,
``100 ln(arm / baseline)``, for three reasons: swapping arm and baseline only turns the sign; a seed
counts the same whether its run is a high or a low one; and the errors of a ratio of positive
numbers are closer to a normal distribution there. Up to a few percent it is the plain percentage.
What is shown to people is converted back by :func:`percent`, which is exact for any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mytnano.errors import UserError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """An arm's metric beside the baseline's, seed by seed.

    Attributes:
        name: of the arm.
        arm: its metric, a value a seed, in the order in which the seeds were run.
        baseline: the baseline's metric of the same seeds.
        status: ``collapsed``, ``diverged`` or ``undertrained`` if the arm's runs are not fit to be
            compared; then the values are not looked at. Empty for a healthy arm.
        ordered: false if the order in which the seeds were run is not known.
    """

    name: str
    arm: Array
    baseline: Array
    status: str = ""
    ordered: bool = True

    def differences(self) -> Array:
        """``100 ln(arm / baseline)`` of each seed, shape (seeds,).

        Raises:
            UserError: the seeds are not paired, or a value is not a positive number.
        """
        try:
            return log_percent(self.arm, self.baseline)
        except ValueError as error:
            raise UserError(f"arm '{self.name}': {error}") from None


def log_percent(arm: npt.ArrayLike, baseline: npt.ArrayLike) -> Array:
    """``100 ln(arm / baseline)``, value by value; negative where the arm's is lower.

    Raises:
        ValueError: the shapes differ, or a value is not a positive number.
    """
    above, below = np.asarray(arm, np.float64), np.asarray(baseline, np.float64)
    if above.shape != below.shape:
        raise ValueError(
            f"{above.size} runs against {below.size} of the baseline; every seed needs both"
        )
    for values in (above, below):
        unfit = values[~(np.isfinite(values) & (values > 0))]
        if unfit.size:
            raise ValueError(f"the metric must be positive, got {unfit[0]:g}")
    # Equal values give an exact zero, which the quotient of rounded logarithms would not.
    return 100.0 * np.log(above / below)


def percent(difference: float) -> float:
    """A difference of logarithms as a percentage of the baseline: ``100 (exp(d / 100) - 1)``."""
    if math.isinf(difference):  # an endless interval stays endless on both sides
        return difference
    try:
        return 100.0 * math.expm1(difference / 100.0)
    except OverflowError:
        return math.inf


def band(margin: float) -> float:
    """Half-width in logarithms of the band that a margin in percent names.

    The ratio of arm to baseline may lie between ``1 / (1 + margin)`` and ``1 + margin``, which is
    the same band after swapping the two, and lies within plus or minus ``margin`` percent.
    """
    return 100.0 * math.log1p(margin / 100.0)
