"""The baseline at other amounts of compute, from which effects are read as compute.

At each amount the baseline is trained with the same few seeds, the confirmed runs among them. Its
rate there is its tuned one, carried over by the written rule (:mod:`mytnano.designs.rates`), or
tuned anew if the question says ``multiplier: tuned``. A rate that is off at another amount bends
the curve: too high a loss at the larger amounts makes a gain look worth more compute than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mytnano.designs.rates import BYTES_EXPONENT
from mytnano.lab.cells import Results, Runner, each_with
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.tuning import Rate
from mytnano.stats.multiplier import compute_multiplier, loss_at
from mytnano.stats.verdict import Verdict
from mytnano.verdicts.words import Worth
from mytnano.words import rounded

FACTORS = (0.25, 0.5, 2.0, 4.0)
"""Times the baseline's training text; the confirmed runs are the amount between."""

SEEDS = 3
"""Seeds of each amount: one doubling of compute moves the loss far more than a seed does."""


@dataclass(frozen=True)
class Level:
    """The baseline at one amount of compute.

    Attributes:
        factor: times its training text. flops: counted, of a run.
        bpb: geometric mean over the seeds. scores: of each seed. lr: peak rate.
        lr_fair: whether the rate is certified; None if it was carried over and not tuned here.
        lr_reason: why it is not.
    """

    factor: float
    flops: float
    bpb: float
    scores: tuple[float, ...]
    lr: float
    lr_fair: bool | None = None
    lr_reason: str = ""


@dataclass(frozen=True)
class Curve:
    """Loss of the baseline over compute, by rising compute, and what a reader should know."""

    levels: tuple[Level, ...]
    tuned: bool
    notes: tuple[str, ...] = ()

    @property
    def own(self) -> Level:
        """The amount of the question itself."""
        return next(level for level in self.levels if level.factor == 1)

    def worth(self, verdict: Verdict, flops: float) -> Worth | None:
        """An arm's effect as a compute multiplier; None without a finite interval.

        Args:
            flops: of a run of the arm.

        Raises:
            UserError: the baseline's loss does not fall with compute.
        """
        if verdict.difference is None or not math.isfinite(verdict.low + verdict.high):
            return None
        values = [
            compute_multiplier(self._flops, self._losses, self.own.bpb * (1 + d / 100), flops)
            for d in (verdict.difference, verdict.high, verdict.low)  # a higher loss is worth less
        ]
        return Worth(*values)

    def against(self, factor: float) -> float:
        """Percent by which the baseline's loss moves at so many times its own compute.

        Raises:
            UserError: beyond what was measured, or the loss does not fall with compute.
        """
        loss = loss_at(self._flops, self._losses, factor * self.own.flops)
        return 100 * (loss / loss_at(self._flops, self._losses, self.own.flops) - 1)

    @property
    def _flops(self) -> list[float]:
        return [level.flops for level in self.levels]

    @property
    def _losses(self) -> list[float]:
        return [level.bpb for level in self.levels]


def measure_curve(plan: Plan, rates: Mapping[str, Rate], runs: Results, runner: Runner) -> Curve:
    """Train the baseline at the other amounts; finished runs are not repeated.

    Args:
        rates, runs: of the question; the baseline's are used.

    Raises:
        RunFailed: a run failed.
    """
    base, spec = plan.baseline, plan.spec
    arms = {factor: at(base, factor) for factor in FACTORS}
    tuned = spec.multiplier == "tuned"
    own: dict[str, Rate] = {base.name: rates[base.name]}
    if tuned:
        own |= runner.tune(tuple(arms.values()), spec.tuning_seeds, spec.margin)
        lrs = {arm.name: own[arm.name].lr for arm in arms.values()}
    else:
        lrs = {arm.name: carried(rates[base.name].lr, factor) for factor, arm in arms.items()}
    seeds = sorted(runs[base.name])[:SEEDS]
    found = runner.confirm(each_with(list(arms.values()), seeds), lrs, "curve")
    level = _level(1.0, base, rates[base.name].lr, runs[base.name], seeds)
    levels, notes = [_certified(level, rates[base.name])], []
    for factor, arm in arms.items():
        status = next(
            (r["status"] for r in found[arm.name].values() if r["status"] != "healthy"), ""
        )
        if status:
            notes.append(f"the baseline at {factor:g}x compute is {status} and left out")
        else:
            level = _level(factor, arm, lrs[arm.name], found[arm.name], seeds)
            levels.append(_certified(level, own.get(arm.name)))
            if levels[-1].lr_fair is False:
                notes.append(
                    f"the LR of the baseline at {factor:g}x compute is not certified: "
                    f"{levels[-1].lr_reason}"
                )
    return Curve(tuple(sorted(levels, key=lambda level: level.flops)), tuned, tuple(notes))


def at(base: Arm, factor: float) -> Arm:
    """The baseline with so many times its text, in the same vocabulary."""
    size = round(factor * base.config.train.train_bytes)
    config = base.config.but(train={"train_bytes": max(1, size)})
    return replace(base, name=f"{base.name}-x{factor:g}", config=config)


def carried(lr: float, factor: float) -> float:
    """A rate at so many times the text, by the written rule; three significant digits."""
    return rounded(lr * factor**BYTES_EXPONENT)


def _certified(level: Level, rate: Rate | None) -> Level:
    """The level with the certificate of its rate, if that was tuned."""
    return replace(level, lr_fair=rate.fair, lr_reason=rate.reason) if rate else level


def _level(
    factor: float, arm: Arm, lr: float, runs: Mapping[int, dict[str, Any]], seeds: list[int]
) -> Level:
    scores = tuple(float(runs[seed]["test_bpb"]) for seed in seeds)
    mean = math.exp(sum(map(math.log, scores)) / len(scores))
    return Level(factor, arm.flops, mean, scores, lr)
