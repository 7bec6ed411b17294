"""What a person sees of the question while its runs go on: rates tried, pairs, evidence so far.

The rule may be looked at after every pair, so the interval so far is honest at any moment. Yet runs
are stopped only at the looks that the plan fixes, when all runs of a look are in: which run ends
first depends on the machine, and the answer must not.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mytnano.lab.plan import Plan
from mytnano.runs.jobs import Event, Finished
from mytnano.runs.progress import Tracker
from mytnano.stats import eprocess
from mytnano.stats.differences import log_percent, percent
from mytnano.words import duration


class Watch(Protocol):
    """Follows the runs of one batch.

    Attributes:
        tracker: of the batch, set when it begins.
    """

    tracker: Tracker | None

    def hear(self, event: Event) -> str | None:
        """Take an event; a line to print where there is no live display, or None."""

    def table(self) -> RenderableType:
        """What a live display shows now."""


class TuningWatch:
    """Arms by learning rates: mean validation BPB so far, and how many seeds it stands on."""

    def __init__(self, arms: list[str], seeds: int) -> None:
        self.tracker: Tracker | None = None
        self._seeds = seeds
        self._found: dict[str, dict[float, dict[int, float]]] = {arm: {} for arm in arms}

    def hear(self, event: Event) -> str | None:
        if not isinstance(event, Finished):
            return None
        arm, lr, bpb = event.job.rung, event.job.config[0].optim.lr, event.result["validation_bpb"]
        # Never empty nor changed once it is there: a live display reads it from another thread.
        seeds = {**self._found[arm].get(lr, {}), event.job.seed: math.inf if bpb is None else bpb}
        self._found[arm][lr] = seeds
        whole = len(seeds) == self._seeds and not event.reused
        return f"  {arm} at LR {lr:g}: {self._cell(seeds)}" if whole else None

    def table(self) -> RenderableType:
        state = {arm: dict(found) for arm, found in self._found.items()}
        rates = sorted({lr for found in state.values() for lr in found})
        table = Table(box=SIMPLE_HEAD)
        table.add_column("validation BPB")
        for lr in rates:
            table.add_column(f"{lr:g}", justify="right")
        for arm, found in state.items():
            best = min(found, key=lambda lr: _mean(found[lr]), default=None)
            cells = [
                Text(self._cell(found[lr]), style="bold" if lr == best else "")
                if lr in found
                else ""
                for lr in rates
            ]
            table.add_row(Text(arm), *cells)
        return table

    def _cell(self, seeds: dict[int, float]) -> str:
        mean = _mean(seeds)
        text = f"{mean:.3f}" if math.isfinite(mean) else "diverged"
        return text if len(seeds) == self._seeds else f"{text} {len(seeds)}/{self._seeds}"


def _mean(seeds: dict[int, float]) -> float:
    return sum(seeds.values()) / len(seeds)


class PairWatch:
    """Arms by seeds: the pairs that are in, the interval so far, and what the rule still needs.

    Attributes:
        later_seconds: expected for the seeds after this look, if all are needed.
    """

    def __init__(self, plan: Plan, seeds: int | None = None) -> None:
        """``seeds``: a number that is run whatever they show; None where the rule may stop."""
        self.tracker: Tracker | None = None
        self.later_seconds = 0.0
        self._plan = plan
        self._seeds = seeds
        self._scores: dict[str, dict[int, float]] = {arm.name: {} for arm in plan.every}

    def hear(self, event: Event) -> str | None:
        if not isinstance(event, Finished):
            return None
        name, seed = event.job.rung, event.job.seed
        if event.result["status"] != "healthy":
            return None
        self._scores[name][seed] = event.result["test_bpb"]
        if event.reused or self._plan.spec.fixed:
            return None
        arms = [arm.name for arm in self._plan.arms]
        paired = arms if name == self._plan.baseline.name else [name]
        lines = [f"{arm}: {self.state(arm)}" for arm in paired if seed in self._pairs(arm)]
        return "  " + "; ".join(lines) if lines else None

    def state(self, arm: str) -> str:
        """``5 pairs, -1.2 % [-3.1, 0.7]; the rule needs BF 100, has 12``."""
        d = self._differences(arm)
        said = f"{d.size} pair{'s' * (d.size != 1)}"
        if d.size:
            said += f", {percent(float(d.mean())):+.2f} %"
        if d.size < eprocess.FEWEST:
            return said
        interval = eprocess.running_interval(d, self._level)
        if math.isfinite(interval.low):
            said += f" [{percent(interval.low):.2f}, {percent(interval.high):.2f}]"
        if self._seeds is not None:
            return said
        return f"{said}; the rule needs BF {1 / self._level:.3g}, has {self._factor(d)}"

    def table(self) -> RenderableType:
        spec = self._plan.spec
        table = Table(box=SIMPLE_HEAD)
        decides = self._seeds is None
        evidence = ("BF", "needed") if decides else ()
        for name in ("arm", "pairs so far", "difference %", "interval %", *evidence):
            table.add_column(name, justify="left" if name == "arm" else "right")
        for arm in self._plan.arms:
            d = self._differences(arm.name)
            row = [f"{d.size} of at most {spec.seeds}" if decides else f"{d.size} of {self._seeds}"]
            if d.size and not spec.fixed:
                row.append(f"{percent(float(d.mean())):+.2f}")
                interval = eprocess.running_interval(d, self._level)
                finite = math.isfinite(interval.low) and d.size >= eprocess.FEWEST
                ends = f"[{percent(interval.low):.2f}, {percent(interval.high):.2f}]"
                row.append(ends if finite else "–")
                row += [self._factor(d), f"{1 / self._level:.3g}"] if decides else []
            table.add_row(Text(arm.name), *row)
        return Group(table, Text(self._rest()))

    def _rest(self) -> str:
        if self._seeds is not None:
            return "all of these are run; the trend is fitted when every size is in"
        if self._plan.spec.fixed:
            return "fixed: looked at when all seeds are in"
        if not self.later_seconds or self.tracker is None:
            return "the rule decides when these runs are in"
        most = self.tracker.seconds_left() + self.later_seconds * self.tracker.pace
        return f"the rule decides when these runs are in; at most about {duration(most)} in all"

    @property
    def _level(self) -> float:
        return self._plan.spec.alpha / len(self._plan.spec.judged)

    def _pairs(self, arm: str) -> list[int]:
        base = self._scores[self._plan.baseline.name]
        return sorted(seed for seed in list(self._scores[arm]) if seed in base)

    def _differences(self, arm: str) -> np.ndarray:
        """``100 ln(arm / baseline)`` of the seeds that both have, in the order of seeds."""
        base, seeds = self._scores[self._plan.baseline.name], self._pairs(arm)
        return log_percent([self._scores[arm][s] for s in seeds], [base[s] for s in seeds])

    @staticmethod
    def _factor(d: np.ndarray) -> str:
        log = float(eprocess.evidence(d).max())
        return f"{math.exp(min(log, 600.0)):.3g}" if math.isfinite(log) else "–"
