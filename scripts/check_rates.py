"""Check the written rule for learning rates at another budget: three points a rung.

    python scripts/check_rates.py FOLDER BUDGET RUNG ...

Trains each rung at the rate that the rule gives at the budget, its half and twice, in FOLDER, where
the same command continues, and writes results/tuning/BUDGET.json. Test text is not read.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import KNOWN, select
from mytnano.environment import count_workers, environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where
from mytnano.ladder.run import known_budget
from mytnano.ladder.sweep import Sweep, as_json
from mytnano.ladder.tune import BASE, Tuned, conclude
from mytnano.runs.lock import folder_lock
from mytnano.training.precision import choose_precision

ROOT = Path(__file__).resolve().parent.parent


def check(out: Path, budget_name: str, names: list[str], console: Console) -> Path:
    """Measure the three points of each rung; return the file that holds them.

    Raises:
        UserError: an unknown budget or rung, or a run failed.
    """
    budget, ids = known_budget(budget_name), [rung.id for rung in select(names)]
    precision, speeds = choose_precision("cpu")
    where = Where(DataConfig(), out, precision, "cpu")
    sweep = Sweep(where, budget, count_workers(None, "cpu"), speeds[precision], console)
    with folder_lock(out):
        tuned = around_the_rule(sweep, ids)
    path = ROOT / "results" / "tuning" / f"{budget_name}.json"
    atomic_write_json(path, as_json(tuned, sweep, environment("cpu", precision)))
    return path


def around_the_rule(sweep: Sweep, ids: Sequence[str]) -> dict[str, Tuned]:
    """Measure rungs at the rate that the written rule gives at this budget, its half and twice.

    The rule holds for a rung if the middle one is the best.
    """

    def ruled(id: str) -> float:
        """The rule's rate as a place on the grid."""
        size = sweep.budget.bytes_of(KNOWN[id].group)
        return math.log2(learning_rate_for(id, size, sweep.where.rates) / BASE)

    places = {id: [ruled(id) + step for step in (-1, 0, 1)] for id in ids}
    losses = sweep.trials().measure([(id, e) for id, each in places.items() for e in each])
    return {id: conclude({e: losses[id, e] for e in each}) for id, each in places.items()}


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("budget")
    parser.add_argument("rungs", nargs="+", metavar="RUNG")
    given = parser.parse_args(arguments)
    try:
        print(check(given.folder, given.budget, given.rungs, Console()))
    except UserError as error:
        print(f"check_rates: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
