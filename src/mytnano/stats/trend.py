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
from mytnano.stats.differences import percent


@dataclass(frozen=True)
class Trend:
    """The change of an effect for each doubling of compute, in percent of the baseline's metric.

    Attributes:
        slope, low, high: percent by which the ratio of arm to baseline changes a doubling; the
            interval is endless with one seed.
        p: of no slope. resolved: the interval excludes zero.
        shrinks: the effect goes towards zero, False if away from it; None if its sign over all
            sizes is not known, or no slope is resolved.
        compute: of the baseline at each size, rising.
        effects: mean difference at each, in percent.
        seeds: at each size.
        reverses: a slope is resolved, and so are the effects at the least and the most compute,
            with opposite signs.
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
    reverses: bool = False

    def __str__(self) -> str:
        at = f"{len(self.compute)} sizes over {self.compute[-1] / self.compute[0]:.3g}x compute"
        ends = f"[{self.low:+.2g}, {self.high:+.2g}]"
        if not self.resolved:
            return f"no trend with compute is resolved: {self.slope:+.2g} % a doubling {ends}, {at}"
        if self.reverses:
            least, most = self.effects[0], self.effects[-1]
            return (
                f"its effect reverses, from {least:+.2g} % at the least compute to {most:+.2g} % "
                f"at the most, by {self.slope:+.2g} % a doubling {ends}, {at}"
            )
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
    sign = _sign(d.mean(axis=0), alpha)
    slope = float(slopes.mean())
    reverses = resolved and _sign(d[0], alpha) * _sign(d[-1], alpha) < 0
    return Trend(
        slope=percent(slope),
        low=percent(interval.low),
        high=percent(interval.high),
        p=p,
        resolved=resolved,
        shrinks=sign * slope < 0 if resolved and sign and not reverses else None,
        compute=tuple(map(float, amounts)),
        effects=tuple(percent(float(mean)) for mean in d.mean(axis=1)),
        seeds=d.shape[1],
        reverses=reverses,
    )


def _sign(differences: npt.NDArray[np.float64], alpha: float) -> int:
    """The sign of the mean that the paired t shows; 0 if it shows none."""
    interval = fixed.paired_t(differences, alpha)[1]
    return int(interval.low > 0) - int(interval.high < 0)
