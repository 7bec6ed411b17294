"""What the report says about an arm: its change, its difference to its parent, the log's claim.

Differences are listed, never judged: a verdict needs an interval, and that is the lab's job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mytnano.config import RunConfig, role
from mytnano.designs.rungs import Rung, design, difference
from mytnano.report.data import Arm, Run
from mytnano.words import setting

LOG_CHARACTERS = 96
"""Symbols of the log's character vocabulary: 41,056 = 257 V + 128 x 128 parameters give V = 96."""
LOG_BYTES_PER_TOKEN = 4.674
"""UTF-8 bytes of a cl100k_base token on the validation text of WikiText-103, the log's corpus."""

_OF_THE_RUN = {"data.fingerprint", "train.seed", "train.salt"}


@dataclass(frozen=True)
class Change:
    """One setting that differs from the parent's; ``chosen`` if the design itself changes it."""

    setting: str
    before: str
    after: str
    help: str
    chosen: bool


@dataclass(frozen=True)
class Pair:
    """Two runs of one seed: BPB of the arm minus BPB of its parent, and why it does not count."""

    seed: int
    difference: float | None
    void: str


@dataclass(frozen=True)
class Claim:
    """The log's row in its own unit.

    Attributes:
        unit: ``character`` or ``cl100k token``; None if the number fits neither.
        bits_per_byte: the same, converted; about the log's own text, not ours.
        same_unit: whether a loss per token of the rung's vocabulary is in this unit.
    """

    loss: float
    accuracy: float | None
    text: str
    unit: str | None
    bits_per_byte: float | None
    same_unit: bool


def changes(rung: Rung, arm: Arm | None = None, parent: Arm | None = None) -> list[Change]:
    """What a rung changes. With runs of both, also what was set to match, from their configs."""
    chosen = difference(rung.id) if rung.parent else {}
    rows = {name: (before, after, True) for name, (before, after) in chosen.items()}
    for name, (before, after) in _resolved_difference(arm, parent).items():
        rows[name] = (before, after, name in chosen or _role(name) == "factor")
    ordered = sorted(rows.items(), key=lambda item: not item[1][2])
    return [
        Change(name, setting(before), setting(after), _help(name), is_chosen)
        for name, (before, after, is_chosen) in ordered
    ]


def pairs(arm: Arm, parent: Arm | None) -> list[Pair]:
    """The differences of seeds that both arms have."""
    others = {run.seed: run for run in parent.runs} if parent else {}
    return [_pair(run, others[run.seed]) for run in arm.runs if run.seed in others]


def mean_difference(paired: list[Pair]) -> float | None:
    """Mean of the pairs; None if there is none or if one of them is void."""
    if not paired or any(pair.void for pair in paired):
        return None
    return sum(pair.difference or 0.0 for pair in paired) / len(paired)


def caution(seeds: int) -> str:
    """What that many seeds can say."""
    if seeds < 2:
        return "One seed says nothing about chance."
    if seeds == 2:
        return "Two seeds decide nothing."
    return "Verdicts with intervals are the lab’s job."


def claim(rung: Rung) -> Claim | None:
    """The log's row of a rung, if it has one."""
    logged = rung.logged
    if logged is None:
        return None
    tokenizer = design(rung.id).data.tokenizer
    if logged.loss <= math.log(LOG_CHARACTERS):
        unit, bytes_per_token = "character", 1.0
    elif tokenizer == "char":
        return Claim(logged.loss, logged.accuracy, logged.claim, None, None, False)
    else:
        unit, bytes_per_token = "cl100k token", LOG_BYTES_PER_TOKEN
    return Claim(
        logged.loss,
        logged.accuracy,
        logged.claim,
        unit,
        logged.loss / (math.log(2) * bytes_per_token),
        tokenizer.startswith("cl100k") if unit == "cl100k token" else tokenizer == "char",
    )


def token_unit(tokenizer: str) -> str:
    """What a token of one of our vocabularies is called: ``character``, ``bpe:1024 token``."""
    return {"char": "character", "byte": "byte"}.get(tokenizer, f"{tokenizer} token")


def lowest(arms: list[Arm], key: str = "test_bpb") -> Arm | None:
    """The arm of the lowest mean score among those whose every seed is healthy."""
    able = [arm for arm in arms if arm.healthy and arm.mean(key) is not None]
    return min(able, key=lambda arm: arm.mean(key) or 0.0, default=None)


def _pair(run: Run, other: Run) -> Pair:
    unfit = [f"parent {other.status}"] * (not other.healthy) + [run.status] * (not run.healthy)
    known = run.bpb is not None and other.bpb is not None
    return Pair(
        run.seed,
        run.bpb - other.bpb if known else None,  # type: ignore[operator]
        ", ".join(unfit) or ("" if known else "no score"),
    )


def _resolved_difference(arm: Arm | None, parent: Arm | None) -> dict[str, tuple[Any, Any]]:
    """``section.field`` -> (parent's value, own value), from the configs of the first seeds."""
    if arm is None or parent is None:
        return {}
    own, other = _flat(arm.runs[0].config), _flat(parent.runs[0].config)
    return {
        name: (other[name], value)
        for name, value in own.items()
        if name in other and other[name] != value and name not in _OF_THE_RUN
    }


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": v for part, fields in config.items() for name, v in fields.items()}


def _field(name: str) -> tuple[Any, str]:
    section, _, field = name.partition(".")
    known = RunConfig.model_fields.get(section)
    return (known.annotation if known else None), field


def _role(name: str) -> str:
    section, field = _field(name)
    return role(section, field) if section and field in section.model_fields else "factor"


def _help(name: str) -> str:
    section, field = _field(name)
    if section is None or field not in section.model_fields:
        return ""
    return section.model_fields[field].description or ""
