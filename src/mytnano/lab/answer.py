"""The answer: verdicts on the confirmed runs, with all that they rest on, as values and files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mytnano.errors import UserError
from mytnano.files import atomic_write_text
from mytnano.lab.curve import Curve
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.spec import ALL, INTERACTION
from mytnano.lab.steptime import Times
from mytnano.lab.tuning import Rate
from mytnano.stats.differences import Array, Pairs, percent
from mytnano.stats.trend import Trend
from mytnano.stats.verdict import UNFIT, Verdict, judge
from mytnano.verdicts import words

RESULTS = "results.csv"
COLUMNS = (
    "arm", "seed", "metric", "validation_bpb", "lr", "flops", "params", "train_bytes", "status",
    "seconds", "config_hash", "stopped",
)  # fmt: skip
"""Of results.csv, which ``mytnano verdict`` reads as well; metric is test BPB, and stopped says
that the arm was decided before the last seed of the baseline."""

Runs = Mapping[str, Mapping[int, dict[str, Any]]]
"""Arm -> seed -> result of a finished run."""


@dataclass(frozen=True)
class Sized:
    """The same question at another size of the baseline.

    Attributes:
        plan, rates, runs: of that size.
    """

    plan: Plan
    rates: Mapping[str, Rate]
    runs: Runs


@dataclass(frozen=True)
class Answer:
    """What an ablation found.

    Attributes:
        plan: the question, and the runs that it led to.
        rates: learning rate and certificate of each arm.
        runs: the confirmed runs.
        verdicts: one an arm, in the question's order.
        environments: hardware, versions, commit and date of its runs; several if a folder was
            continued elsewhere.
        interaction: on what all arms do beyond their sum, where the question asks for it.
        curve: the baseline at other amounts of compute, where asked for.
        sizes: the other sizes of the baseline, by label, where asked for.
        trends: of each arm over the sizes; none for an arm that is unfit at one of them.
        times: seconds of a step of each design, where asked for.
        notes: what a reader should know, in sentences without full stops.
    """

    plan: Plan
    rates: Mapping[str, Rate]
    runs: Runs
    verdicts: tuple[Verdict, ...]
    environments: tuple[dict[str, Any], ...]
    interaction: Verdict | None = None
    curve: Curve | None = None
    sizes: Mapping[str, Sized] = field(default_factory=dict)
    trends: Mapping[str, Trend] = field(default_factory=dict)
    times: Times | None = None
    notes: tuple[str, ...] = ()

    @property
    def undecided(self) -> list[str]:
        """Arms that the rule wants more seeds of; for an interaction all, as it needs each seed of
        each arm."""
        still = [v.name for v in self.verdicts if v.verdict == "unresolved"]
        beyond = self.interaction
        if beyond is None or beyond.verdict in UNFIT:  # whose sum more seeds would not fix
            return still
        if still or beyond.verdict == "unresolved":
            return [arm.name for arm in self.plan.arms]
        return []

    @property
    def enough(self) -> bool:
        """Whether the rule has decided on every arm, or all seeds are spent."""
        return not self.undecided or len(self.runs[self.plan.baseline.name]) == self.plan.spec.seeds

    @property
    def final(self) -> bool:
        """Enough seeds, and the other amounts of compute and sizes that were asked for."""
        spec = self.plan.spec
        measured = not spec.multiplier or self.curve is not None
        return self.enough and measured and len(self.sizes) == len(self.plan.scales)

    @property
    def sentences(self) -> list[str]:
        """One for each arm, and for the interaction, without a full stop."""
        said = [self.sentence(verdict) for verdict in self.verdicts]
        return [*said, self.interaction_sentence] if self.interaction else said

    def sentence(self, verdict: Verdict) -> str:
        """What is said of one arm, with what makes it fair."""
        base = self.plan.baseline.name
        said = words.sentence(verdict, base, self.plan.spec.rule, self.worth(verdict))
        if trend := self.trends.get(verdict.name):
            said += f"; {trend}"
        return f"{said} ({'; '.join(self.fairness(self.plan.arm(verdict.name)))})"

    @property
    def interaction_sentence(self) -> str:
        """What is said of the interaction; empty where it was not asked for."""
        if self.interaction is None:
            return ""
        parts = " + ".join(arm.name for arm in self.plan.arms if arm.name != ALL)
        said = words.interaction(self.interaction, ALL, parts, self.plan.spec.rule)
        return f"{said} ({'; '.join(self.fairness(*self.plan.arms))})"

    def worth(self, verdict: Verdict) -> words.Worth | None:
        """The effect as a compute multiplier; None where it was not asked for or is not known."""
        return self._worth(verdict)[0]

    @property
    def why_no_worth(self) -> list[str]:
        """Why what was asked for as compute cannot be said so, each reason once."""
        return list(dict.fromkeys(why for _, why in map(self._worth, self.verdicts) if why))

    def _worth(self, verdict: Verdict) -> tuple[words.Worth | None, str]:
        """An effect as compute, or why it is none."""
        if self.curve is None or verdict.verdict in UNFIT:
            return None, ""
        try:
            return self.curve.worth(verdict, self.plan.arm(verdict.name).flops), ""
        except UserError as error:
            return None, str(error)

    def equal_time(self, verdict: Verdict) -> str:
        """What step times make of an arm: computed, not trained. Empty where nothing is known."""
        times, base, name = self.times, self.plan.baseline.name, verdict.name
        if times is None or times.void or verdict.verdict in UNFIT or verdict.difference is None:
            return ""
        ratio = times.run(name) / times.run(base)
        steps = f"{1e3 * times.seconds[name]:.3g} and {1e3 * times.seconds[base]:.3g} ms a step"
        took = f"{name} takes {ratio:.3g}x the time of {base} ({steps}, each alone)"
        if self.curve is None:
            return f"{took}; with multiplier: true it would be said what equal time is worth"
        try:
            moved = 1 + self.curve.against(ratio) / 100
        except UserError as error:
            return f"{took}; equal time cannot be computed: {error}"
        ends = (verdict.difference, verdict.low, verdict.high)
        at, low, high = (100 * ((1 + d / 100) / moved - 1) for d in ends)
        interval = f" [{low:.2f}, {high:.2f}]" if math.isfinite(high - low) else ""
        return (
            f"at equal time {name} would differ from {base} by {at:+.2f} %{interval}, computed and "
            f"not trained: {took}"
        )

    def fairness(self, *arms: Arm) -> list[str]:
        """What was matched, and whether the learning rates are fair: of one arm, or of several."""
        base = self.plan.baseline
        flops = max(abs(arm.flops / base.flops - 1) for arm in arms)
        size = max(abs(arm.parameters / base.parameters - 1) for arm in arms)
        matched = {
            "flops": f"FLOPs matched to {flops:.1%}",
            "parameters": f"parameters matched to {size:.1%}",
            "bytes": "bytes matched",
        }[self.plan.spec.match]
        unfair = [
            f"{name}: {self.rates[name].reason}"
            for name in (base.name, *(arm.name for arm in arms))
            if not self.rates[name].fair
        ]
        said = [matched, f"LR not certified, {', '.join(unfair)}" if unfair else "LR fair"]
        if len(arms) == 1 and len(arms[0].factors) > 1:
            said.append(f"a joint change of {len(arms[0].factors)}")
        followed = dict.fromkeys(
            each
            for arm in arms
            for each in arm.others
            if each.startswith("model.") and "own_code" not in each
        )
        if followed:
            said.append(f"with {', '.join(followed)}")
        return said

    def as_predicted(self, name: str) -> bool | None:
        """Whether an arm's verdict is the one that was predicted; None without a prediction."""
        expected = self.plan.spec.prediction.get(name)
        every = [*self.verdicts, *([self.interaction] if self.interaction else [])]
        verdict = next(v.verdict for v in every if v.name == name)
        return None if expected is None else verdict == expected


def answer(
    plan: Plan,
    rates: Mapping[str, Rate],
    runs: Runs,
    environments: tuple[dict[str, Any], ...],
    times: Times | None = None,
) -> Answer:
    """Judge the confirmed runs that there are."""
    found = judge(judged_pairs(plan, runs), plan.spec.rule)
    beyond = found.pop() if plan.interaction else None
    return Answer(plan, rates, runs, tuple(found), environments, beyond, times=times)


def judged_pairs(plan: Plan, runs: Runs) -> list[Pairs]:
    """Of every arm, and last of the interaction where that is judged."""
    pairs = [pairs_of(arm.name, runs[arm.name], runs[plan.baseline.name]) for arm in plan.arms]
    return [*pairs, _beyond_the_sum(pairs)] if plan.interaction else pairs


def differences(found: Answer, name: str) -> Array:
    """``100 ln(arm / baseline)`` of an arm or the interaction, seed by seed; empty if unfit."""
    (pairs,) = (each for each in judged_pairs(found.plan, found.runs) if each.name == name)
    return np.zeros(0) if pairs.status else pairs.differences()


def pairs_of(
    name: str, runs: Mapping[int, dict[str, Any]], baseline: Mapping[int, dict[str, Any]]
) -> Pairs:
    """An arm's test BPB beside the baseline's of the same seeds, in the order of ``runs``."""
    statuses = {run["status"] for run in runs.values()}
    status = next((bad for bad in UNFIT if bad in statuses), "")
    if status:  # scores of a diverged run are missing
        return Pairs(name, np.zeros(len(runs)), np.zeros(len(runs)), status)
    scores = np.array([runs[seed]["test_bpb"] for seed in runs], dtype=float)  # (seeds,)
    return Pairs(name, scores, np.array([baseline[seed]["test_bpb"] for seed in runs], dtype=float))


def _beyond_the_sum(pairs: list[Pairs]) -> Pairs:
    """All arms together against the sum of the single effects, as a pair of its own.

    The difference of a seed is ``d_all - sum(d_single)`` in logarithms, which is the ratio of
    ``all`` to what the product of the single ratios makes of the baseline.
    """
    *single, whole = pairs
    status = next((bad for bad in UNFIT if bad in {p.status for p in pairs}), "")
    if status:
        return Pairs(INTERACTION, whole.arm, whole.baseline, status)
    ratios = np.prod([p.arm / p.baseline for p in single], axis=0)  # (seeds,)
    return Pairs(INTERACTION, whole.arm, whole.baseline * ratios)


def write_results(found: Answer, out: Path) -> None:
    """Write ``results.csv``, a row a confirmed run; raises UserError where the disk is full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    most = max(map(len, found.runs.values()))
    for arm, runs in found.runs.items():
        for seed, result in runs.items():
            row = {"arm": arm, "seed": seed, "metric": result["test_bpb"]}
            row["stopped"] = "decided" if len(runs) < most else ""
            writer.writerow({**result, **row, "lr": found.rates[arm].lr})
    atomic_write_text(out / RESULTS, text.getvalue())


def unfit_seeds(runs: Mapping[int, dict[str, Any]]) -> str:
    """``collapsed with seed 3`` for the first run that is not healthy; empty if all are."""
    for seed, result in runs.items():
        if result["status"] != "healthy":
            return f"{result['status']} with seed {seed}"
    return ""


def differences_percent(found: Answer, name: str) -> list[float]:
    """Each paired seed's difference of an arm, in percent of the baseline; empty if unfit."""
    return [percent(float(d)) for d in differences(found, name)]
