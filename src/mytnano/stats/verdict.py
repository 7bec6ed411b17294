"""One rule that decides what paired runs say about the arms of one question.

In this order, for each arm:

1. a status given by the caller (``collapsed``, ``diverged``, ``undertrained``) is the verdict;
2. ``unresolved`` with fewer pairs than ``eprocess.FEWEST``;
3. ``identical`` if every difference is exactly zero;
4. ``unresolved`` if early and late pairs contradict each other;
5. ``equivalent`` if the interval lies inside the margin;
6. ``better`` or ``worse`` if zero is rejected, by Holm's procedure over all arms of the question;
7. ``unresolved``, with the effect that the same rule would have found.

5 stands before 6 because the margin is what the asker called too small to matter, before looking. A
difference that is detected and lies inside it is both real and too small; the verdict answers the
question that was asked, and ``Verdict.detected`` keeps the sign.

Two error rates are held at ``alpha`` each, over all arms together and for every time of looking:
that any arm is called better or worse though it is not different (Holm), and that any is called
equivalent though it differs by the margin or more (intervals at ``alpha`` over the number of arms).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mytnano.errors import UserError, unknown
from mytnano.stats import eprocess, fixed
from mytnano.stats.differences import Array, Pairs, band, percent
from mytnano.stats.eprocess import Interval
from mytnano.stats.holm import holm, levels
from mytnano.stats.power import minimum_detectable, pairs_for

UNFIT = ("diverged", "collapsed", "undertrained")
"""Statuses that are verdicts, the worst first."""

VERDICTS = ("better", "worse", "equivalent", "identical", "unresolved", *UNFIT)


@dataclass(frozen=True)
class Rule:
    """What was decided before the first run.

    Attributes:
        alpha: highest chance of a false verdict, see the module.
        margin: percent of the baseline within which a difference does not matter.
        higher_is_better: whether a higher metric is the better one.
        fixed: decide by the paired t, which is right only if the number of seeds was fixed before.
        g: prior variance of the effect, see :mod:`mytnano.stats.eprocess`.

    Raises:
        UserError: ``alpha`` or ``margin`` is out of range.
    """

    alpha: float = 0.01
    margin: float = 0.3
    higher_is_better: bool = False
    fixed: bool = False
    g: float = eprocess.G

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise UserError(
                f"alpha is {self.alpha:g}, but must lie between 0 and 0.5; 0.01 is usual"
            )
        if not 0 < self.margin < 100:
            raise UserError(
                f"the margin is {self.margin:g} %, but must lie between 0 and 100; it is the "
                "difference that would not matter, such as 0.3"
            )


@dataclass(frozen=True)
class Verdict:
    """What is said of one arm. Percentages are of the baseline, negative where the arm is lower.

    Attributes:
        name: of the arm.
        verdict: one of ``VERDICTS``.
        pairs: number of seeds.
        difference: mean difference in percent (of the geometric means); None if not looked at.
        low, high: interval in percent, right for all arms at once; infinite while there is none.
        p: p-value of no difference, for this arm alone.
        p_adjusted: the same by Holm's procedure, to hold against ``alpha``.
        detected: ``better`` or ``worse`` if zero is rejected, whatever the verdict; else empty.
        contradictory: early and late pairs contradict each other.
        constant: every pair differs by the same amount, which independent seeds do not do.
        log10_bayes_factor: the largest so far, as a power of ten.
        deviation: paired standard deviation in percent (of logarithms).
        level: level at which the arm was held.
        detectable: smallest effect in paired deviations that this rule finds with probability 0.8
            from as many pairs; None unless unresolved, infinite if they cannot decide.
        detectable_percent: the same in percent, by the deviation seen.
        pairs_needed: fewest pairs that can decide at this level.
        pairs_for_margin: pairs at which the interval's half is about as wide as the margin, by the
            deviation seen; None with a fixed number of seeds.
        paired_t_p, sign_flip_p: classical p-values, valid if the number of seeds was fixed.
    """

    name: str
    verdict: str
    pairs: int = 0
    difference: float | None = None
    low: float = -math.inf
    high: float = math.inf
    p: float = 1.0
    p_adjusted: float = 1.0
    detected: str = ""
    contradictory: bool = False
    constant: bool = False
    log10_bayes_factor: float | None = None
    deviation: float | None = None
    level: float | None = None
    detectable: float | None = None
    detectable_percent: float | None = None
    pairs_needed: int | None = None
    pairs_for_margin: int | None = None
    paired_t_p: float | None = None
    sign_flip_p: float | None = None


def judge(arms: Sequence[Pairs], rule: Rule | None = None) -> list[Verdict]:
    """The verdict on every arm of one question, in the order given.

    May be called after every seed: with the e-process (the default), better, worse and equivalent
    hold their error rates however often one looks. All arms that the question named must be given
    each time, finished or not, as Holm counts them.

    Raises:
        UserError: seeds are not paired, a metric is not a positive number, a status is unknown, or
            there is no arm.
    """
    rule = rule or Rule()
    if not arms:
        raise UserError("there is no arm to judge; give at least one beside the baseline")
    differences = [_differences(arm) for arm in arms]
    p = [
        1.0 if d is None else _p(d, rule, arm.ordered)
        for arm, d in zip(arms, differences, strict=True)
    ]
    adjusted, held = holm(p), levels(p, rule.alpha)
    found = []
    for i, (arm, d) in enumerate(zip(arms, differences, strict=True)):
        if d is None:
            found.append(Verdict(arm.name, arm.status, pairs=len(arm.arm)))
        else:
            share = rule.alpha / len(arms)
            tested = _Tested(p[i], float(adjusted[i]), float(held[i]), share, arm.ordered)
            found.append(_decide(_measured(arm.name, d, tested, rule), d, tested, rule))
    return found


@dataclass(frozen=True)
class _Tested:
    """An arm among the others: its p-values, the level it was held at, and that of its interval.

    ``ordered`` is that of its pairs.
    """

    p: float
    adjusted: float
    level: float
    share: float
    ordered: bool


def _differences(arm: Pairs) -> Array | None:
    if arm.status and arm.status not in UNFIT:
        raise UserError(f"arm '{arm.name}': {unknown(arm.status, 'a status', UNFIT)}")
    return None if arm.status else arm.differences()


def _p(d: Array, rule: Rule, ordered: bool) -> float:
    if d.size < eprocess.FEWEST:
        return 1.0
    if rule.fixed:
        return fixed.paired_t(d, rule.alpha)[0]
    return eprocess.anytime_p(d, rule.g, ordered)


def _measured(name: str, d: Array, tested: _Tested, rule: Rule) -> Verdict:
    """All that is known of an arm, before anything is decided."""
    known = Verdict(
        name,
        "unresolved",
        pairs=d.size,
        difference=percent(float(d.mean())) if d.size else None,
        p=tested.p,
        p_adjusted=tested.adjusted,
        level=tested.level,
        deviation=float(d.std(ddof=1)) if d.size > 1 else None,
    )
    if d.size < eprocess.FEWEST:
        return known
    sign, interval = _sign_and_interval(d, tested, rule)
    return replace(
        known,
        low=percent(interval.low),
        high=percent(interval.high),
        detected="" if not sign else "better" if (sign > 0) == rule.higher_is_better else "worse",
        contradictory=interval.contradictory,
        constant=fixed.constant(d),
        log10_bayes_factor=eprocess.largest_factor(d, rule.g, tested.ordered) / math.log(10),
        paired_t_p=fixed.paired_t(d, tested.level)[0],
        sign_flip_p=fixed.sign_flip(d),
    )


def _sign_and_interval(d: Array, tested: _Tested, rule: Rule) -> tuple[int, Interval]:
    """The sign of the difference, 0 if zero is not rejected; and the interval to show."""
    sign = int(np.sign(d.mean())) if tested.adjusted <= rule.alpha else 0
    if rule.fixed:
        interval = fixed.paired_t(d, tested.share)[1]
    else:
        held = eprocess.running_interval(d, tested.level, rule.g, tested.ordered)
        if held.contradictory:
            last = eprocess.last_interval(d, tested.share, rule.g)
            return 0, replace(last, contradictory=True)
        interval = eprocess.running_interval(d, tested.share, rule.g, tested.ordered)
    # Holm's later steps may reject a zero that the interval for all arms just holds. The sign is
    # known all the same, so the interval ends at zero (Strassburger & Bretz 2008).
    if sign > 0:
        interval = replace(interval, low=max(interval.low, 0.0))
    if sign < 0:
        interval = replace(interval, high=min(interval.high, 0.0))
    return sign, interval


def _decide(known: Verdict, d: Array, tested: _Tested, rule: Rule) -> Verdict:
    """The rule of this module, from its second step on."""
    if known.pairs >= eprocess.FEWEST:
        if not d.any():
            return replace(known, verdict="identical", low=0.0, high=0.0)
        edge = percent(band(rule.margin)), percent(-band(rule.margin))
        if not known.contradictory and edge[1] <= known.low and known.high <= edge[0]:
            return replace(known, verdict="equivalent")
        if known.detected:
            return replace(known, verdict=known.detected)
    return _unresolved(known, tested, rule)


def _unresolved(known: Verdict, tested: _Tested, rule: Rule) -> Verdict:
    """With what as many pairs would have found, and how many it takes."""
    g, deviation = rule.g, known.deviation
    detectable = minimum_detectable(known.pairs, tested.level, g, rule.fixed, tested.ordered)
    unresolved = replace(
        known,
        detectable=detectable,
        detectable_percent=percent(detectable * deviation) if deviation else None,
        pairs_needed=eprocess.FEWEST if rule.fixed else eprocess.fewest_pairs(tested.level, g),
    )
    if rule.fixed or not deviation:
        return unresolved
    return replace(
        unresolved, pairs_for_margin=pairs_for(band(rule.margin) / deviation, tested.share, g)
    )
