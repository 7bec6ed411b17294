"""A few steps of mytllm-1b at its full size on a CPU: one rank, one window a step.

    python scripts/whole_recipe.py --out out/whole_recipe.json

shows that the recipe is made as large as it says, that its steps lower the loss of a window of the
embedded corpus which they repeat, and what memory they take beside the plan's figure. Takes about
21 GiB in bf16 and some minutes; says nothing of speed. `scripts/publish.py scale FILE` publishes
the result. --smoke takes mytllm-tiny.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from mytnano.config import RunConfig
from mytnano.designs.scale import MYTLLM_1B, MYTLLM_TINY
from mytnano.distributed.engine import ShardedEngine
from mytnano.distributed.world import World, joined
from mytnano.environment import environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.planning.memory import training_memory
from mytnano.training import memory
from mytnano.training.text import prepare, resolve, windows_of
from mytnano.training.transfer import on_device

STEPS = 4
RATE = 1e-4
"""Without a warmup, AdamW's first steps are large."""

SHARE = 0.97
"""Of the free memory that the plan may fill."""


def config_of(smoke: bool, cache: Path) -> RunConfig:
    """The recipe with one window a step, its blocks recomputed."""
    train = {
        "device": "cpu", "precision": "bf16", "batch_windows": 1, "micro_windows": 1,
        "recompute": True, "compile": False,
    }  # fmt: skip
    recipe = MYTLLM_TINY if smoke else MYTLLM_1B
    return resolve(recipe.but(train=train), cache, keep_context=True)


def steps_of(config: RunConfig, cache: Path, world: World) -> tuple[int, list[float]]:
    """Parameters of the engine, and the losses in nats per token before each step and the last."""
    batch = windows_of(config, prepare(config.data, cache)).batch(0)
    x, y = on_device(batch, "cpu")  # (1, T) each
    engine = ShardedEngine(config, world)
    count = sum(master.numel() for master in engine.masters.values())
    losses = []
    for step in range(STEPS + 1):
        losses.append(engine.gradients(x, y).item())
        if step < STEPS:
            engine.update(RATE)
        print(f"after {step} steps: {losses[-1]:.3f} nats per token", flush=True)
    return count, losses


def measure(smoke: bool) -> dict[str, Any]:
    """Size, losses, and planned and measured memory.

    Raises:
        UserError: too little memory is free.
    """
    with tempfile.TemporaryDirectory() as name:
        config = config_of(smoke, Path(name))
        planned = training_memory(config, sharded=True)
        expected = planned.total - planned.probe  # nothing is measured from inside
        free = memory.free_bytes("cpu")
        if expected > SHARE * free:
            raise UserError(
                f"{expected / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free: close "
                "what else runs, or take a larger machine"
            )
        with joined("cpu") as world:
            memory.reset_peak("cpu")
            before = psutil.Process().memory_info().rss
            count, losses = steps_of(config, Path(name), world)
            peak = memory.peak_bytes("cpu") - before
    return {
        "smoke": smoke,
        "recipe": "mytllm-tiny" if smoke else "mytllm-1b",
        "parameters": count,
        "context": config.model.context,
        "losses": losses,
        "rate": RATE,
        "planned": expected,
        "measured": peak,
        "parts": asdict(planned),
        "environment": environment("cpu", "bf16"),
    }


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--smoke", action="store_true", help="a size that a test can afford")
    given = parser.parse_args(arguments)
    try:
        atomic_write_json(given.out, {})  # minutes later it would be too late to hear of the disk
        atomic_write_json(given.out, measure(given.smoke))
    except UserError as error:
        print(f"whole_recipe: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was measured", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
