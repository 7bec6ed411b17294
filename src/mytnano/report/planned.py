"""How much of its budget a ladder's results hold, and what was planned and not run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mytnano.designs.budgets import BUDGETS, Budget
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import select
from mytnano.report.data import Results
from mytnano.words import listed

SETTINGS = tuple(field.name for field in fields(Budget))
"""Names of what a budget sets today; results may carry others of earlier versions."""


@dataclass(frozen=True)
class Coverage:
    """Runs of the budget's own groups: how many are there, of how many, and what is missing.

    ``missing`` has a few words a group: ``depth``, ``core (seeds 2, 3 and 4)``.
    """

    made: int
    planned: int
    missing: list[str]


def coverage(results: Results) -> Coverage | None:
    """What is there of a known budget; None for another, and for an extended group by itself."""
    budget = BUDGETS.get(results.budget.get("name") or "")
    shared = {id for group in WIDER_GROUPS.values() for id in group.ids}
    if budget is None or all(arm.rung.id in shared for arm in results.group("core")):
        return None
    made = planned = 0
    missing = []
    for group in budget.groups:
        wanted = {(r.id, s) for r in select([group]) for s in range(budget.seeds_of(group))}
        here = {(arm.rung.id, run.seed) for arm in results.arms.values() for run in arm.runs}
        planned, made = planned + len(wanted), made + len(wanted & here)
        if left := wanted - here:
            missing.append(group if left == wanted else f"{group} ({_words(wanted, left)})")
    return Coverage(made, planned, missing)


def _words(wanted: set[tuple[str, int]], left: set[tuple[str, int]]) -> str:
    """Seeds if every rung lacks the same ones, else the number of runs."""
    rungs = {id for id, _ in wanted}
    seeds = sorted({seed for _, seed in left})
    if len(left) != len(rungs) * len(seeds):
        return f"{len(left)} of {len(wanted)} runs"
    return f"seed{'s' * (len(seeds) > 1)} {listed([str(seed) for seed in seeds])}"


def settings(budget: dict[str, Any]) -> dict[str, Any]:
    """A budget's settings, without those that no longer exist."""
    return {name: value for name, value in budget.items() if name in SETTINGS}
