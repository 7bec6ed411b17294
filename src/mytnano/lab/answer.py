"""The answer: verdicts on the confirmed runs, with all that they rest on, as values and files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mytnano.files import atomic_write_json, atomic_write_text
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.tuning import Rate
from mytnano.stats.differences import Pairs
from mytnano.stats.verdict import UNFIT, Verdict, judge
from mytnano.verdicts import words

RESULTS = "results.csv"
ANSWER = "answer.json"
COLUMNS = (
    "arm", "seed", "metric", "validation_bpb", "lr", "flops", "params", "train_bytes", "status",
    "seconds", "config_hash",
)  # fmt: skip
"""Of results.csv, which ``mytnano verdict`` reads as well; metric is test BPB."""

Runs = Mapping[str, Mapping[int, dict[str, Any]]]
"""Arm -> seed -> result of a finished run."""


@dataclass(frozen=True)
class Answer:
    """What an ablation found.

    Attributes:
        plan: the question, and the runs that it led to.
        rates: learning rate and certificate of each arm.
        runs: the confirmed runs.
        verdicts: one an arm, in the question's order.
        environment: hardware, versions, commit and date.
    """

    plan: Plan
    rates: Mapping[str, Rate]
    runs: Runs
    verdicts: tuple[Verdict, ...]
    environment: dict[str, Any]

    @property
    def final(self) -> bool:
        """Whether the rule has decided on every arm, or all seeds are spent."""
        decided = all(verdict.verdict != "unresolved" for verdict in self.verdicts)
        return decided or len(self.runs[self.plan.baseline.name]) == self.plan.spec.seeds

    @property
    def sentences(self) -> list[str]:
        """One for each arm, without a full stop."""
        return [self.sentence(verdict) for verdict in self.verdicts]

    def sentence(self, verdict: Verdict) -> str:
        """What is said of one arm, with what makes it fair."""
        said = words.sentence(verdict, self.plan.baseline.name, self.plan.spec.rule)
        return f"{said} ({'; '.join(self.fairness(self.plan.arm(verdict.name)))})"

    def fairness(self, arm: Arm) -> list[str]:
        """What was matched, and whether the learning rates are fair."""
        base = self.plan.baseline
        matched = {
            "flops": f"FLOPs matched to {abs(arm.flops / base.flops - 1):.1%}",
            "parameters": f"parameters matched to {abs(arm.parameters / base.parameters - 1):.1%}",
            "bytes": "bytes matched",
        }[self.plan.spec.match]
        unfair = [
            f"{name}: {self.rates[name].reason}"
            for name in (base.name, arm.name)
            if not self.rates[name].fair
        ]
        lr = "LR fair" if not unfair else f"LR not certified, {', '.join(unfair)}"
        sized = [
            each for each in arm.others if each.startswith("model.") and "own_code" not in each
        ]
        return [matched, lr, *(f"with {', '.join(sized)}" for _ in sized[:1])]

    def as_predicted(self, name: str) -> bool | None:
        """Whether an arm's verdict is the one that was predicted; None without a prediction."""
        expected = self.plan.spec.prediction.get(name)
        verdict = next(v.verdict for v in self.verdicts if v.name == name)
        return None if expected is None else verdict == expected


def answer(
    plan: Plan, rates: Mapping[str, Rate], runs: Runs, environment: dict[str, Any]
) -> Answer:
    """Judge the confirmed runs that there are."""
    pairs = [_pairs(arm.name, runs[arm.name], runs[plan.baseline.name]) for arm in plan.arms]
    return Answer(plan, rates, runs, tuple(judge(pairs, plan.spec.rule)), environment)


def _pairs(
    name: str, runs: Mapping[int, dict[str, Any]], baseline: Mapping[int, dict[str, Any]]
) -> Pairs:
    statuses = {run["status"] for run in runs.values()}
    status = next((bad for bad in UNFIT if bad in statuses), "")
    if status:  # scores of a diverged run are missing
        return Pairs(name, np.zeros(len(runs)), np.zeros(len(runs)), status)
    scores = np.array([runs[seed]["test_bpb"] for seed in runs], dtype=float)  # (seeds,)
    return Pairs(name, scores, np.array([baseline[seed]["test_bpb"] for seed in runs], dtype=float))


def write_answer(found: Answer, out: Path) -> None:
    """Write ``results.csv`` and ``answer.json``; raises UserError where the disk is full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for arm, runs in found.runs.items():
        for seed, result in runs.items():
            row = {"arm": arm, "seed": seed, "metric": result["test_bpb"]}
            writer.writerow({**result, **row, "lr": found.rates[arm].lr})
    atomic_write_text(out / RESULTS, text.getvalue())
    atomic_write_json(out / ANSWER, as_json(found))


def as_json(found: Answer) -> dict[str, Any]:
    """Everything but the runs, which are in ``results.csv`` and the run folders."""
    spec = found.plan.spec
    return {
        "question": spec.question,
        "final": found.final,
        "plan_hash": found.plan.hash,
        "rule": asdict(spec.rule),
        "match": spec.match,
        "corpus": spec.corpus,
        "train_bytes": spec.train_bytes,
        "environment": found.environment,
        "arms": [
            {
                **words.as_json(verdict, found.sentence(verdict), None),
                "factors": list(found.plan.arm(verdict.name).factors),
                "others": list(found.plan.arm(verdict.name).others),
                "prediction": spec.prediction.get(verdict.name),
                "as_predicted": found.as_predicted(verdict.name),
            }
            for verdict in found.verdicts
        ],
        "designs": {arm.name: _design(found, arm) for arm in found.plan.every},
    }


def _design(found: Answer, arm: Arm) -> dict[str, Any]:
    rate = found.rates[arm.name]
    scores = [run["test_bpb"] for run in found.runs[arm.name].values()]
    return {
        "bpb": None if None in scores or not scores else float(np.mean(scores)),
        "seeds": len(scores),
        "flops": arm.flops,
        "params": arm.parameters,
        "train_bytes": arm.config.train.train_bytes,
        "lr": rate.lr,
        "lr_fair": rate.fair,
        "lr_reason": rate.reason,
        "lr_error_octaves": rate.error,
        "lr_cost_percent": rate.cost,
        "lr_points": rate.tuned.points,
    }
