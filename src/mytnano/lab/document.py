"""The answer as one JSON file: all but the runs, which are in ``results.csv`` and their folders."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from mytnano.lab.answer import Answer, Sized, differences_percent
from mytnano.lab.plan import Arm
from mytnano.lab.tuning import Rate
from mytnano.verdicts import words


def as_json(found: Answer) -> dict[str, Any]:
    """Everything but the runs, as plain values; what was not asked for is left out.

    ``environment`` is that of the first runs; ``environments`` are all, where there are several.
    """
    spec = found.plan.spec
    content = {
        "question": spec.question,
        "final": found.final,
        "plan_hash": found.plan.hash,
        "rule": asdict(spec.rule),
        "match": spec.match,
        "corpus": spec.corpus,
        "train_bytes": spec.train_bytes,
        "environment": found.environments[0],
        **({"environments": list(found.environments)} if len(found.environments) > 1 else {}),
        "arms": [_arm(found, number) for number in range(len(found.verdicts))],
        "designs": {arm.name: _design(arm, found.rates, found.runs) for arm in found.plan.every},
    }
    return content | _beside(found)


def _arm(found: Answer, number: int) -> dict[str, Any]:
    verdict, spec = found.verdicts[number], found.plan.spec
    arm = found.plan.arm(verdict.name)
    row = {
        **words.as_json(verdict, found.sentence(verdict), found.worth(verdict)),
        "differences": differences_percent(found, verdict.name),
        "factors": list(arm.factors),
        "others": list(arm.others),
        "prediction": spec.prediction.get(verdict.name),
        "as_predicted": found.as_predicted(verdict.name),
    }
    if trend := found.trends.get(verdict.name):
        row["trend"] = asdict(trend)
    if told := found.equal_time(verdict):
        row["equal_time"] = told
    return row


def _beside(found: Answer) -> dict[str, Any]:
    """What was asked for beyond verdicts."""
    content: dict[str, Any] = {}
    if found.plan.spec.combine != "none":
        content["combine"] = found.plan.spec.combine
    if found.interaction:
        said = found.interaction_sentence
        content["interaction"] = words.as_json(found.interaction, said, None)
    if found.curve:
        content["curve"] = asdict(found.curve)
    if found.sizes:
        content["sizes"] = {name: _size(sized) for name, sized in found.sizes.items()}
    if found.times:
        content["times"] = asdict(found.times) | {"void": found.times.void}
    if found.notes:
        content["notes"] = list(found.notes)
    return content


def _size(sized: Sized) -> dict[str, Any]:
    return {arm.name: _design(arm, sized.rates, sized.runs) for arm in sized.plan.every}


def _design(arm: Arm, rates: Any, runs: Any) -> dict[str, Any]:
    rate: Rate = rates[arm.name]
    scores = [run["test_bpb"] for run in runs[arm.name].values()]
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
