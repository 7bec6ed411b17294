"""What a rung changes in the run that it becomes, its design and what it is given to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mytnano.config import RunConfig
from mytnano.designs.budgets import BUDGETS, Budget, apply
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import KNOWN, Rung, config_difference, design, difference

READ = ("train.batch_windows", "data.text_bytes")
"""Settings of what a run reads: where a rung alters them, they are its change."""

SIZE = "train.train_bytes"
LEARNED = "data.tokenizer_bytes"


@dataclass(frozen=True)
class Changed:
    """A setting's value before and after, and whether the rung is about it or it follows."""

    before: object
    after: object
    chosen: bool


def budgeted(config: RunConfig, rung: Rung, budget: Budget) -> RunConfig:
    """A rung's config with what the budget gives it to read."""
    config = apply(config, budget, rung.group)
    if rung.batch_windows is not None:
        config = config.but(train={"batch_windows": rung.batch_windows})
    if rung.epochs > 1:
        config = config.but(data={"text_bytes": config.train.train_bytes // rung.epochs})
    return config


def run_changes(id: str) -> Mapping[str, Changed]:
    """``section.field`` -> what a rung changes, at the first budget that trains its group.

    Only a text can tell how many bytes the FLOPs of another rung pay for: they are named.
    """
    rung = KNOWN[id]
    if rung.parent is None:
        return {}
    budget = _budget_of(rung)
    runs = [_run(each, budget) for each in (rung.parent, id)]
    found = config_difference(*runs) | _of_equal_flops(rung, budget)
    chosen = set(difference(id)) | {*READ}
    if LEARNED in found and "data.tokenizer" not in found:
        chosen.add(LEARNED)
    if rung.equal_flops or rung.group == "long":
        chosen.add(SIZE)
    return {
        name: Changed(before, after, name in chosen)
        for name, (before, after) in found.items()
        if name != "train.score_test"
    }


def _budget_of(rung: Rung) -> Budget:
    whole = [budget for budget in BUDGETS.values() if budget.comparable]
    return next((budget for budget in whole if rung.group in budget.groups), whole[0])


def _run(id: str, budget: Budget) -> RunConfig:
    rung = KNOWN[id]
    lr = learning_rate_for(id, budget.bytes_of(rung.group))
    return budgeted(design(id), rung, budget).but(optim={"lr": lr})


def _of_equal_flops(rung: Rung, budget: Budget) -> dict[str, tuple[object, object]]:
    if rung.equal_flops is None:
        return {}
    size = budget.bytes_of(rung.group)
    lr = learning_rate_for(rung.parent or rung.id, size)
    return {
        SIZE: (size, f"what the FLOPs of {rung.equal_flops} pay for"),
        "optim.lr": (lr, "scaled by the bytes"),
    }
