"""The coordinate check: do activations move as much in a large model as in a small one?

    python scripts/coordinate_check.py

Takes about a minute and writes results/scale/coordinates.json: under each scaling, for each seed,
width and depth, the size (root mean square) of what a few steps at one learning rate on one batch
changed in the output of the last block, in the states that enter the head and in the logits, and
with which power of the model's size that grows. Under muP's rules it does not depend on width;
under the standard ones it grows with it, which is why a rate tuned small is too high for large
(Yang et al. 2022, appendix D.1).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mytnano.config import ModelConfig, OptimConfig, RunConfig
from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.model.scaling import resized
from mytnano.training.engine import Engine

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "results" / "scale" / "coordinates.json"
SIZES = {"width": (32, 64, 128, 256, 512), "layers": (2, 4, 8, 16, 32)}
STEPS, SEEDS = 5, (0, 1, 2)
WINDOWS = 8


def coordinates(
    design: RunConfig, axis: Literal["width", "layers"], sizes: Sequence[int], steps: int, seed: int
) -> dict[int, dict[str, float]]:
    """Size -> how much ``steps`` steps changed each activation; axis ``width`` or ``layers``."""
    return {
        size: changes(
            design.but(model=resized(design.model, **{axis: size}).model_dump()), steps, seed
        )
        for size in sizes
    }


def changes(config: RunConfig, steps: int, seed: int) -> dict[str, float]:
    """Root mean square of what training changed in each activation of the batch trained on."""
    engine = Engine(config.but(train={"seed": seed}))
    x, y = batch(config.model, seed)
    before = activations(engine, x)
    for _ in range(steps):
        engine.gradients(x, y)
        engine.update(config.optim.lr)
    return {
        name: (after - before[name]).square().mean().sqrt().item()
        for name, after in activations(engine, x).items()
    }


def batch(config: ModelConfig, seed: int) -> tuple[Tensor, Tensor]:
    """Windows of random ids and the same one token later, (B, T) each; equal at every size."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(config.vocab_size, (WINDOWS, config.context + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]


@torch.no_grad()
def activations(engine: Engine, x: Tensor) -> dict[str, Tensor]:
    """The stream after the last block (B, T, D), the states (B, T, D), the logits (B, T, V)."""
    model, kept = engine.exact_model(), {}

    def keep(block: torch.nn.Module, inputs: tuple, output: Tensor) -> None:
        kept["stream"] = output

    model.blocks[-1].register_forward_hook(keep)  # the model is a copy, and goes with its hook
    states = model(x)  # (B, T, D)
    # What scaling divides is measured before, as each coordinate of it should stay put.
    kept["states"] = states / model.output_factor
    kept["logits"] = model.head(states)  # (B, T, V)
    return kept


TOY = RunConfig(
    model=ModelConfig(
        vocab_size=64, context=16, width=32, layers=2, heads=2, kv_heads=1, kernel="flash",
        positions="rope", ffn="swiglu", ffn_width=96, norm="rmsnorm", init="zero-out",
        base_width=32, base_layers=2,
    ),
    optim=OptimConfig(lr=4e-3, weight_decay=0.0),
)  # fmt: skip
"""Small enough to be checked in seconds; sizes grow from its own, where all rules agree."""


def growth(measured: dict[int, dict[str, float]]) -> dict[str, float]:
    """Activation -> exponent of its change over the size: 0 is flat, 1 proportional."""
    sizes = np.log(list(measured))  # (sizes,)
    return {
        name: float(np.polyfit(sizes, np.log([row[name] for row in measured.values()]), 1)[0])
        for name in next(iter(measured.values()))
    }


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
