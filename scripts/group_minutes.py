"""What the extended groups would take: writes results/groups/minutes.json.

    python scripts/group_minutes.py

Core minutes by the ladder's own estimate, at the speed of the reference machine in bf16; nothing is
trained. Of a search for a learning rate the number of rates is a guess, as in the printed plan.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS, Budget
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import KNOWN, select
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where
from mytnano.ladder.estimate import REFERENCE_SPEED
from mytnano.ladder.group_rates import POINTS, planned, to_tune
from mytnano.ladder.plan import plan
from mytnano.ladder.sweep import Sweep

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "results/groups/minutes.json"
SHOWN = ("quick", "standard")


def minutes(name: str, budget: Budget, where: Where) -> dict[str, float]:
    """Rungs, runs, searches and core minutes of a group."""
    said: list[str] = []
    groups = plan(select([name]), budget, None, where, REFERENCE_SPEED, said.append)
    if said:
        raise RuntimeError(f"the plan of {name} is not whole: {said[0]}")
    sweep = Sweep(where, budget, 1, REFERENCE_SPEED, Console(quiet=True))
    searches = planned(sweep, to_tune([KNOWN[group[0].rung] for group in groups]))
    seconds = sum(job.expected_seconds for group in groups for job in group)
    seconds += sum(
        job.expected_seconds * POINTS / len(jobs) for jobs in searches.values() for job in jobs
    )
    return {
        "rungs": len(groups),
        "runs": sum(len(group) for group in groups),
        "searches": len(searches),
        "core_minutes": round(seconds / 60, 1),
    }


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    content: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        where = Where(DataConfig(), Path(folder), "bf16", "cpu")
        for budget in (BUDGETS[name] for name in SHOWN):
            content[budget.name] = {}
            for name in WIDER_GROUPS:
                content[budget.name][name] = minutes(name, budget, where)
                print(budget.name, name, content[budget.name][name], flush=True)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(FILE, {"budgets": content})
    return 0


if __name__ == "__main__":
    sys.exit(main())
