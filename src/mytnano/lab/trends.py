"""From the same question at several sizes to the trend of each arm's effect."""

from __future__ import annotations

import numpy as np

from mytnano.lab.answer import Answer, pairs_of, unfit_seeds
from mytnano.stats.trend import Trend, trend


def trends_of(found: Answer, seeds: int) -> tuple[dict[str, Trend], tuple[str, ...]]:
    """The trend of each arm, and notes on what has none, and on rates that are not certified.

    Args:
        seeds: of each size; the question's own size has these and maybe more, which are not used,
            as they were run because of what the first ones showed.
    """
    every = {"": (found.plan, found.runs)}
    every |= {name: (sized.plan, sized.runs) for name, sized in found.sizes.items()}
    notes = [
        f"at scale {name} the LR of {arm} is not certified: {rate.reason}"
        for name, sized in found.sizes.items()
        for arm, rate in sized.rates.items()
        if not rate.fair
    ]
    unfit_baselines = []
    for name, (plan, runs) in every.items():
        if unfit := unfit_seeds(runs[plan.baseline.name]):
            unfit_baselines.append(f"at scale {name} the baseline is {unfit}, so there is no trend")
    if unfit_baselines:
        return {}, (*notes, *unfit_baselines)
    compute = [plan.baseline.flops for plan, _ in every.values()]
    trends: dict[str, Trend] = {}
    alpha = found.plan.spec.alpha / len(found.plan.spec.judged)
    for arm in found.plan.arms:
        rows = []
        for name, (plan, runs) in every.items():
            first = dict(list(runs[arm.name].items())[:seeds])
            pairs = pairs_of(arm.name, first, runs[plan.baseline.name])
            if pairs.status:
                at = f"at scale {name}" if name else "at the question's own size"
                notes.append(f"{arm.name} is {pairs.status} {at}, so it has no trend")
                break
            rows.append(pairs.differences())
        else:
            trends[arm.name] = trend(compute, np.array(rows), alpha)
    return trends, tuple(notes)
