"""What the report says about an arm: its change, its difference to its parent, the log's claim.

Differences are listed, never judged: a verdict needs an interval, and that is the lab's job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mytnano.config import RunConfig, role
from mytnano.designs.changes import run_changes
from mytnano.designs.rungs import KNOWN, Rung, design
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
    """Two runs of one seed: BPB of the arm minus BPB of its parent, and why it does not count.

    ``precisions`` names both, ``fp32 minus bf16``, where they are not the same.
    """

    seed: int
    difference: float | None
    void: str
    precisions: str = ""


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
    """What a rung changes, and what follows; with runs of both, as their configs have it."""
    known = run_changes(rung.id) if rung.id in KNOWN else {}
    rows = {name: (each.before, each.after, each.chosen) for name, each in known.items()}
    measured = _resolved_difference(arm, parent)
    if measured:  # of the very budget, with the rates that were tuned
        rows = {name: row for name, row in rows.items() if row[2]}
    for name, (before, after) in measured.items():
        is_chosen = rows[name][2] if name in rows else _role(name) == "factor"
        rows[name] = (before, after, is_chosen)
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


ABOVE_GUESSING = "per character, above even guessing"
"""The unit of a loss that fits none: see :func:`no_loss`."""


def no_loss(claim: Claim) -> str:
    """What is wrong with a claim that has no unit."""
    return (
        f"Guessing evenly among {LOG_CHARACTERS} characters costs {math.log(LOG_CHARACTERS):.2f} "
        f"nats, so {claim.loss:.3f} per character is no loss of a model that has learned anything"
    )


def token_unit(tokenizer: str) -> str:
    """What a token of one of our vocabularies is called: ``character``, ``bpe:1024 token``."""
    return {"char": "character", "byte": "byte"}.get(tokenizer, f"{tokenizer} token")


def lowest(arms: list[Arm], key: str = "test_bpb") -> Arm | None:
    """The arm of the lowest mean score among those whose every seed is healthy."""
    able = [arm for arm in arms if arm.healthy and arm.mean(key) is not None]
    return min(able, key=lambda arm: arm.mean(key) or 0.0, default=None)


NEAR_FLOPS = 0.1
"""Rungs within this share of a model's training FLOPs are said to cost as much."""


def cost_beside(arm: Arm, other: Arm) -> tuple[float, float]:
    """How many times the other's training FLOPs, and its parameters, an arm has."""
    flops, params = (
        (arm.mean(name) or 0) / (other.mean(name) or 1) for name in ("flops", "params")
    )
    return flops, params


def of_equal_cost(arms: list[Arm], other: Arm) -> list[Arm]:
    """The arms within :data:`NEAR_FLOPS` of the other's training FLOPs, itself among them."""
    flops = other.mean("flops")
    if flops is None:
        return []
    return [a for a in arms if abs((a.mean("flops") or 0) - flops) <= NEAR_FLOPS * flops]


OTHER_TEXT = (
    "the merges of cl100k_base were learned from other text, and its compact table from the whole "
    "training split"
)
"""What a vocabulary has of text that no run was trained on; said beside its score."""


def knows_other_text(arm: Arm) -> bool:
    """Whether an arm's vocabulary was learned from text beyond what the runs saw."""
    return design(arm.rung.id).data.tokenizer.startswith("cl100k") if _known(arm) else False


def _known(arm: Arm) -> bool:
    return arm.rung.id in KNOWN


@dataclass(frozen=True)
class Counted:
    """The learned bigram of one seed beside the one counted from the same pairs, in BPB."""

    seed: int
    learned: float
    counted: float
    nats: float | None


def counted_bigrams(baselines: dict[str, Any], arm: Arm | None) -> list[Counted]:
    """Seed by seed, as each seed reads other pairs; earlier files have those of seed 0 alone."""
    alone = baselines.get("char_bigram")
    rows = baselines.get("char_bigrams") or ([{"seed": 0, **alone}] if alone else [])
    learned = {run.seed: run.bpb for run in arm.runs} if arm else {}
    return [
        Counted(row["seed"], score, row["bpb"], row.get("nats_per_token"))
        for row in rows
        if (score := learned.get(row["seed"])) is not None and row.get("bpb") is not None
    ]


def of_shared_seeds(one: Arm | None, other: Arm | None) -> tuple[Arm | None, Arm | None]:
    """Both arms with the seeds that both have; as they are if they share none."""
    if one is None or other is None:
        return one, other
    shared = {run.seed for run in one.runs} & {run.seed for run in other.runs}
    if not shared:
        return one, other
    first, second = (
        Arm(arm.rung, [run for run in arm.runs if run.seed in shared]) for arm in (one, other)
    )
    return first, second


def _pair(run: Run, other: Run) -> Pair:
    unfit = [f"parent {other.status}"] * (not other.healthy) + [run.status] * (not run.healthy)
    known = run.bpb is not None and other.bpb is not None
    own, others = (each.made.get("precision") for each in (run, other))
    return Pair(
        run.seed,
        run.bpb - other.bpb if known else None,  # type: ignore[operator]
        ", ".join(unfit) or ("" if known else "no score"),
        f"{own} minus {others}" if own and others and own != others else "",
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
