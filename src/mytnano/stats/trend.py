"""What an effect does as compute grows: a slope over several sizes, with its interval.

Every seed is run at every size, so it gives a slope of its own: the least-squares line of its
differences over log2 of the baseline's compute. The slopes of the seeds are held by Student's t.
That needs no assumption on how the spread changes from size to size, nor on how the differences of
one seed at two sizes depend on each other. It does assume that seeds are independent, that slopes
are about normal, that their number was fixed beforehand, and that over the range measured the
effect is a straight line in the logarithm of compute; beyond that range nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mytnano.errors import UserError
from mytnano.stats import fixed


@dataclass(frozen=True)
class Trend:
    """The change of an effect for each doubling of compute, in percent of the baseline's metric.

    Attributes:
        slope, low, high: points of percent a doubling; the interval is endless with one seed.
        p: of no slope. resolved: the interval excludes zero.
        shrinks: the effect goes towards zero, False if away from it; None if its sign over all
            sizes is not known, or no slope is resolved.
        compute: of the baseline at each size, rising.
        effects: mean difference at each.
        seeds: at each size.
    """

    slope: float
    low: float
    high: float
    p: float
    resolved: bool
    shrinks: bool | None
    compute: tuple[float, ...]
    effects: tuple[float, ...]
    seeds: int

    def __str__(self) -> str:
        at = f"{len(self.compute)} sizes over {self.compute[-1] / self.compute[0]:.3g}x compute"
        ends = f"[{self.low:+.2g}, {self.high:+.2g}]"
        if not self.resolved:
            return f"no trend with compute is resolved: {self.slope:+.2g} % a doubling {ends}, {at}"
        if self.shrinks is None:
            return f"its difference moves by {self.slope:+.2g} % a doubling of compute {ends}, {at}"
        low, high = sorted((abs(self.low), abs(self.high)))
        verb = "shrinks" if self.shrinks else "grows"
        return (
            f"its effect {verb} by {abs(self.slope):.2g} % a doubling of compute "
            f"[{low:.2g}, {high:.2g}], {at}"
        )


def trend(compute: Sequence[float], differences: npt.ArrayLike, alpha: float) -> Trend:
    """The trend of an arm.

    Args:
        compute: the baseline's at each size, in any unit.
        differences: ``100 ln(arm / baseline)``, (sizes, seeds); the same seeds at every size.
        alpha: chance that the interval misses the slope.

    Raises:
        UserError: fewer than three sizes, or amounts that are not positive and different.
    """
    amounts, d = np.asarray(compute, np.float64), np.asarray(differences, np.float64)
    if amounts.size < 3 or d.shape[0] != amounts.size:
        raise UserError("a trend needs the differences at three sizes or more")
    if np.unique(amounts).size < amounts.size or not (amounts > 0).all():
        raise UserError("a trend needs sizes of different compute")
    order = np.argsort(amounts)
    amounts, d = amounts[order], d[order]
    x = np.log2(amounts) - np.log2(amounts).mean()  # (sizes,)
    slopes = x @ d / (x @ x)  # (seeds,)
    p, interval = fixed.paired_t(slopes, alpha)
    resolved = bool(interval.low > 0 or interval.high < 0)
    middle = fixed.paired_t(d.mean(axis=0), alpha)[1]
    sign = 1 if middle.low > 0 else -1 if middle.high < 0 else 0
    slope = float(slopes.mean())
    return Trend(
        slope=slope,
        low=interval.low,
        high=interval.high,
        p=p,
        resolved=resolved,
        shrinks=sign * slope < 0 if resolved and sign else None,
        compute=tuple(map(float, amounts)),
        effects=tuple(map(float, d.mean(axis=1))),
        seeds=d.shape[1],
    )
