"""Tune the learning rate of each recipe at size nano, from which every other rate follows by rule.

    python scripts/recipe_rates.py FOLDER

Searches on the embedded corpus as the ladder's sweeps do, with two seeds a rate that no published
run uses, in FOLDER, where the same command continues, and writes results/tuning/recipes.json. The
constants `RATES` of mytnano.designs.recipes are taken from that file. Test text is not read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import SEMANTICS, RunConfig
from mytnano.designs.budgets import MIB
from mytnano.designs.recipes import RECIPES, base_rate
from mytnano.environment import count_workers, environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.sweep import GROUP, point_list
from mytnano.ladder.tune import around, rate, search
from mytnano.runs.jobs import STOPPED, Job
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import progress_display
from mytnano.runs.runner import run_jobs
from mytnano.solo.plan import Request, make_plan
from mytnano.training.precision import choose_precision

FILE = Path(__file__).resolve().parent.parent / "results/tuning/recipes.json"
SIZE, BYTES = "nano", MIB
SEEDS = (1000, 1001)


@dataclass(frozen=True)
class Search:
    """The recipes as `mytnano train` would make them, and where their runs go."""

    configs: dict[str, RunConfig]
    where: Where
    speed: float
    console: Console

    def measure(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], float]:
        """(recipe, exponent) -> mean validation BPB over the seeds, infinite if one diverged."""
        jobs = {(*point, seed): self.job(*point, seed) for point in wanted for seed in SEEDS}
        groups, workers = [[job] for job in jobs.values()], count_workers(None, "cpu")
        with progress_display(groups, workers, self.console) as show:
            summary = run_jobs(groups, work, workers, 1, show)
        if summary.failed:
            raise UserError(summary.failed[0].sentence)
        scores = {key: summary.results[job.name]["validation_bpb"] for key, job in jobs.items()}
        return {
            point: sum(math.inf if scores[*point, s] is None else scores[*point, s] for s in SEEDS)
            / len(SEEDS)
            for point in wanted
        }

    def job(self, recipe: str, exponent: int, seed: int) -> Job:
        lr = float(f"{rate(exponent):.3g}")
        config = self.configs[recipe].but(
            optim={"lr": lr}, train={"seed": seed, "score_test": False}
        )
        labels = {"rung": recipe, "group": GROUP}
        return labelled_job(f"{recipe}-lr{lr:g}-s{seed}", config, self.where, self.speed, labels)


def measured(out: Path, console: Console) -> dict[str, Any]:
    """The content of the file."""
    precision, speeds = choose_precision("cpu")
    configs = {}
    for recipe in RECIPES:
        (out / recipe).mkdir(parents=True, exist_ok=True)
        request = Request(recipe, SIZE, bytes=BYTES, device="cpu", precision=precision)
        configs[recipe] = make_plan(request, out / recipe, console.print).config
    where = Where(configs[recipe].data, out, precision, "cpu")
    starts = {recipe: around(config.optim.lr) for recipe, config in configs.items()}
    tuned = search(
        list(RECIPES), Search(configs, where, speeds[precision], console).measure, starts
    )
    recipes = {
        name: {
            "lr": found.lr,
            "rate": base_rate(found.lr, configs[name]),
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
    """Exit code 0, or 2 with a sentence about what to mend."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(arguments[0])
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
