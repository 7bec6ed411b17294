"""Does a learning rate tuned small serve large? Optimum rates over four widths and three depths.

    python scripts/lr_transfer.py FOLDER [--seeds N] [--smoke]

Tunes the rate of one design at each size, under the standard rules and under CompleteP's, and at
the three depths also under muP's, which differ there; by the rule of docs/method.md, on the
embedded corpus, with one seed a rate unless --seeds says more. The same command continues in
FOLDER. About 15 minutes a seed on 2 cores with units for bf16, longer without. Writes
FOLDER/lr_transfer.json, which `scripts/publish.py scale FILE` publishes. --smoke trains a few steps
of three sizes to see that all works. Test text is not read.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from rich.console import Console

from mytnano.cli import STOPPED
from mytnano.config import DataConfig, RunConfig
from mytnano.designs.baselines import SMALL
from mytnano.environment import count_workers, environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where
from mytnano.ladder.sweep import point_list
from mytnano.ladder.trials import Trials
from mytnano.ladder.tune import Tuned, search
from mytnano.model.scaling import resized
from mytnano.runs.lock import folder_lock
from mytnano.training.precision import choose_precision
from mytnano.training.text import resolve

FIRST_SEED = 1000
"""No published run has it or those after it: a choice made on a seed flatters that seed."""

SIZES = [(32, 4), (64, 4), (128, 4), (256, 4), (64, 2), (64, 8)]
"""(width, layers): four widths at four layers, three depths at width 64."""

SMOKE_SIZES = [(32, 2), (64, 2), (32, 4)]
RULES = ("standard", "completep", "mup")
BASE = SMALL.but(
    model={
        "width": 64, "layers": 4, "ffn": "swiglu", "ffn_width": 192, "base_width": 64,
        "base_layers": 4,
    },
    data={"tokenizer": "char", "window_bytes": 128},
    train={
        "train_bytes": 2**18, "batch_windows": 4, "score_test": False, "evaluations": 2,
        "curve_bytes": 4096, "validation_bytes": 65_536,
    },
)  # fmt: skip


def design_name(scaling: str, width: int, layers: int) -> str:
    return f"{scaling}-d{width}-l{layers}"


def names(sizes: list[tuple[int, int]]) -> list[str]:
    """The designs by name. At the base's depth muP's rules are CompleteP's but for weight decay, so
    they are measured at the base's width alone."""
    return [
        design_name(rules, width, layers)
        for rules in RULES
        for width, layers in sizes
        if rules != "mup" or width == BASE.model.width
    ]


def design(name: str) -> RunConfig:
    """``completep-d64-l4`` as a config without a rate."""
    scaling, width, layers = name.split("-")
    model = resized(BASE.model, int(width[1:]), int(layers[1:]))
    return BASE.but(model={**model.model_dump(), "scaling": scaling})


def as_json(tuned: dict[str, Tuned]) -> dict[str, object]:
    """Each design's optimum and points, and what the base's optimum costs there, in BPB."""
    rows = {}
    for name, found in tuned.items():
        scaling = name.partition("-")[0]
        base = tuned.get(design_name(scaling, BASE.model.width, BASE.model.layers))
        octaves = math.log2(found.lr / base.lr) if base else None
        rows[name] = {
            "lr": found.lr,
            "octaves_from_base": octaves,
            "flat": found.flat,
            "interior": found.interior,
            "curvature": found.curvature,
            "cost_of_base_lr": found.curvature * octaves**2
            if base and found.curvature is not None
            else None,
            "points": point_list(found),
        }
    return rows


def tune(out: Path, seeds: int, smoke: bool, console: Console) -> Path:
    """Tune every size under the rules; return the file that holds the result."""
    precision, speeds = choose_precision("cpu")
    size = 2**13 if smoke else BASE.train.train_bytes
    where = Where(DataConfig(), out, precision, "cpu")
    chosen = range(FIRST_SEED, FIRST_SEED + seeds)

    def config(name: str, lr: float, seed: int) -> RunConfig:
        train = {"seed": seed, "precision": precision, "train_bytes": size}
        return resolve(design(name).but(optim={"lr": lr}, train=train), where.cache)

    workers = count_workers(None, "cpu")
    trials = Trials(config, chosen, where, workers, speeds[precision], console, "transfer")
    with folder_lock(out):
        tuned = search(names(SMOKE_SIZES if smoke else SIZES), trials.measure)
    path = out / "lr_transfer.json"
    about = {"base": BASE.model_dump(exclude_defaults=True), "seeds": [*chosen]}
    about |= {"smoke": smoke, "train_bytes": size, "environment": environment("cpu", precision)}
    atomic_write_json(path, about | {"designs": as_json(tuned)})
    return path


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1, choices=range(1, 10), metavar="N")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    try:
        print(tune(given.folder, given.seeds, given.smoke, Console()))
    except UserError as error:
        print(f"lr_transfer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
