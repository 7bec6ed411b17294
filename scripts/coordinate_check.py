"""The coordinate check over widths and depths: how much a few steps change activations.

    python scripts/coordinate_check.py

Takes about a minute and writes results/scale/coordinates.json: under each scaling, for each seed
and size, the root mean square of the changes, and with which power of the size they grow.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.training.coordinates import TOY, coordinates, growth

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "results" / "scale" / "coordinates.json"
SIZES = {"width": (32, 64, 128, 256, 512), "layers": (2, 4, 8, 16, 32)}
STEPS, SEEDS = 5, (0, 1, 2)


def check() -> dict[str, object]:
    """Scaling -> axis -> the measured changes by seed and size, and their growth by seed."""
    found: dict[str, object] = {}
    for scaling in ("standard", "mup", "completep"):
        design = TOY.but(model={"scaling": scaling})
        found[scaling] = {}
        for axis, sizes in SIZES.items():
            measured = {seed: coordinates(design, axis, sizes, STEPS, seed) for seed in SEEDS}
            powers = {seed: growth(rows) for seed, rows in measured.items()}
            found[scaling][axis] = {"changes": measured, "growth": powers}
            rows = (f"{name} {value:+.2f}" for name, value in powers[SEEDS[0]].items())
            print(f"{scaling:9} {axis:6} grows with the power: {', '.join(rows)}", flush=True)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = {"config": TOY.model_dump(exclude_defaults=True), "steps": STEPS}
    where = environment("cpu", "fp32")
    atomic_write_json(FILE, {**settings, "environment": where, "scalings": check()})
    print(FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
