"""Does a learning rate tuned small serve large? Optimum rates over four widths and three depths.

    python scripts/lr_transfer.py FOLDER [--smoke]

Tunes the rate of one design at each size, under the standard rules and under CompleteP's, by the
rule of docs/method.md, on the embedded corpus; the same command continues in FOLDER. Planned for
about 40 minutes on 2 cores. Writes results/scale/lr_transfer.json; with --smoke, which trains a few
steps of three sizes to see that all works, FOLDER/lr_transfer.json. Test text is not read.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mytnano.config import DataConfig, RunConfig
from mytnano.designs.baselines import SMALL
from mytnano.environment import count_workers, environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.tune import Tuned, rate, search
from mytnano.model.scaling import resized
from mytnano.runs.jobs import Job
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import progress_display
from mytnano.runs.runner import run_jobs
from mytnano.training.precision import choose_precision
from mytnano.training.text import resolve

ROOT = Path(__file__).resolve().parent.parent
SEED = 1000
SIZES = [(32, 4), (64, 4), (128, 4), (256, 4), (64, 2), (64, 8)]
"""(width, layers): four widths at four layers, three depths at width 64."""

SMOKE_SIZES = [(32, 2), (64, 2), (32, 4)]
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


@dataclass(frozen=True)
class Transfer:
    """The measurement: where it runs, how much each run trains, and the machine's speed."""

    where: Where
    train_bytes: int
    workers: int
    speed: float
    console: Console

    def measure(self, wanted: list[tuple[str, int]]) -> dict[tuple[str, int], float]:
        """(design, exponent) -> validation BPB, infinite if diverged."""
        jobs = {point: self.job(*point) for point in wanted}
        groups = [[job] for job in jobs.values()]
        with progress_display(groups, max(1, self.workers), self.console) as show:
            summary = run_jobs(groups, work, self.workers, 1, show)
        if summary.failed:
            raise UserError(f"{summary.failed[0].sentence}; without it there is no optimum")
        found = {key: summary.results[job.name]["validation_bpb"] for key, job in jobs.items()}
        return {key: math.inf if bpb is None else bpb for key, bpb in found.items()}

    def job(self, name: str, exponent: int) -> Job:
        lr = float(f"{rate(exponent):.3g}")
        config = design(name).but(
            optim={"lr": lr},
            train={
                "seed": SEED, "precision": self.where.precision, "train_bytes": self.train_bytes
            },
        )  # fmt: skip
        labels = {"rung": name, "group": "transfer"}
        config = resolve(config, self.where.cache)
        return labelled_job(f"{name}-lr{lr:g}", config, self.where, self.speed, labels)


def design_name(scaling: str, width: int, layers: int) -> str:
    return f"{scaling}-d{width}-l{layers}"


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
            "points": [[lr, loss if math.isfinite(loss) else None] for lr, loss in found.points],
        }
    return rows


def tune(out: Path, smoke: bool, console: Console) -> Path:
    """Tune every size under both rules; return the file that holds the result."""
    precision, speeds = choose_precision("cpu")
    size = 2**13 if smoke else BASE.train.train_bytes
    workers = count_workers(None, "cpu")
    where = Where(DataConfig(), out, precision, "cpu")
    transfer = Transfer(where, size, workers, speeds[precision], console)
    sizes = SMOKE_SIZES if smoke else SIZES
    names = [design_name(rules, *size) for rules in ("standard", "completep") for size in sizes]
    with folder_lock(out):
        tuned = search(names, transfer.measure)
    path = (out if smoke else ROOT / "results" / "scale") / "lr_transfer.json"
    settings = {"base": BASE.model_dump(exclude_defaults=True), "seed": SEED, "train_bytes": size}
    atomic_write_json(
        path, {**settings, "environment": environment("cpu", precision), "designs": as_json(tuned)}
    )
    return path


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence about what to mend."""
    folders = [word for word in arguments if word != "--smoke"]
    if len(folders) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(tune(Path(folders[0]), "--smoke" in arguments, Console()))
    except UserError as error:
        print(f"lr_transfer: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
