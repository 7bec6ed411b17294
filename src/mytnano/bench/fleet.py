"""``mytnano bench --fleet 8,16``: fleets beside runs alone, in tokens/s of full optimizer steps.

All contestants of a shape live in this process, and are timed in turn, round after round, so that a
slow minute hits all of them. A burst is timed as a whole, with one wait for the device at its end:
the training loop does not wait after each step either. Ids are random and lie on the device.

Beside the speed stands an A/A check on that device: how far members' losses are from those of runs
alone, against how far seeds are from each other.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mytnano.bench.shapes import SHAPES, Shape, model_config
from mytnano.bench.steps import batch
from mytnano.config import RunConfig
from mytnano.environment import choose_device, environment
from mytnano.errors import UserError, brief, unknown
from mytnano.files import atomic_write_json
from mytnano.measure.turns import wait
from mytnano.training.engine import Engine
from mytnano.training.fleet import Fleet, forget_programs
from mytnano.training.precision import choose_precision

BURST_SECONDS = 2.0
LR = 1e-3
CHECKED_STEPS = 20
CHECKED_MEMBERS = 4
LONGEST = 200
"""Characters of the reason why a contestant failed."""

FLEET_SHAPES = {
    "A": Shape("A", vocabulary=384, width=128, heads=4, layers=4, windows=4, context=256),
    **SHAPES,
}
"""A is about a step of the ladder at budget quick; the others are those of the race."""


@dataclass
class Contestant:
    """One way to train: so many models at once, alone if it is one.

    Attributes:
        fleet: whether it is a fleet, even of one.
        mode: of torch.compile.
        seconds: of a step in each round. warm_up: seconds until the first step was done.
        failure: why it left the race, or empty.
    """

    size: int
    compiled: bool
    fleet: bool = True
    mode: str | None = None
    seconds: list[float] = field(default_factory=list)
    warm_up: float = 0.0
    peak_bytes: int | None = None
    failure: str = ""
    step: Callable[[], object] | None = None
    count: int = 1

    @property
    def label(self) -> str:
        """What the table calls it."""
        words = [f"fleet of {self.size}" if self.fleet else "alone"]
        words.append("compiled" if self.compiled else "eager")
        return " ".join([*words, *([self.mode] if self.mode else [])])

    def speed(self, tokens: int) -> float:
        """Median tokens/s of all members together, for ``tokens`` a step of one."""
        return statistics.median(self.size * tokens / seconds for seconds in self.seconds)


def parse_sizes(text: str) -> list[int]:
    """``"8,16"`` -> ``[8, 16]``; raises UserError for anything else."""
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise UserError(f"'{text}' is not a list of fleet sizes, such as 8,16")
    return sizes


def run_fleet_bench(
    sizes: Sequence[int], shapes: Sequence[str], rounds: int, out: Path, device: str, threads: int
) -> dict[str, Any]:
    """Race fleets of ``sizes`` against runs alone; print a table a shape, write all to ``out``.

    Args:
        shapes: names among :data:`FLEET_SHAPES`. rounds: how often each is timed.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``. threads: on a CPU.

    Raises:
        UserError: an unknown shape or device, or ``out`` cannot be written.
    """
    for name in shapes:
        if name not in FLEET_SHAPES:
            raise unknown(name, "a shape", FLEET_SHAPES)
    device = choose_device(device)
    torch.set_num_threads(threads)
    precision, _ = choose_precision(device, threads)
    result: dict[str, Any] = {
        "environment": environment(device, precision), "threads": threads, "rounds": rounds,
        "shapes": {},
    }  # fmt: skip
    console = Console()
    for name in shapes:
        shape = FLEET_SHAPES[name]
        with console.status(name) as status:
            say = lambda words: status.update(f"{name}: {words}")  # noqa: B023
            racing = race(shape, sizes, rounds, device, precision, say)
            say("comparing losses")
            check = guarded_agreement(shape, device, precision)
        result["shapes"][name] = measured = summary(shape, racing) | {"agreement": check}
        console.print(table(shape, measured))
        atomic_write_json(out, result)
    console.print(f"written to {out}", highlight=False, soft_wrap=True)
    return result


def race(
    shape: Shape,
    sizes: Sequence[int],
    rounds: int,
    device: str,
    precision: str,
    say: Callable[[str], None] = lambda words: None,
) -> list[Contestant]:
    """Build all contestants, then time each once in every round."""
    racing = [Contestant(1, compiled, fleet=False) for compiled in (False, True)]
    racing += [Contestant(size, compiled) for size in sizes for compiled in (False, True)]
    if device == "cuda":  # CUDA graphs, which take away what is left of launches
        racing += [Contestant(size, True, mode="reduce-overhead") for size in sizes]
    for contestant in racing:
        say(f"warming up {contestant.label}")
        attempt(contestant, lambda c=contestant: prepare(c, shape, device, precision))
    for index in range(rounds):
        say(f"round {index + 1} of {rounds}")
        for contestant in racing:
            if not contestant.failure:
                attempt(contestant, lambda c=contestant: c.seconds.append(burst(c, device)))
    for contestant in racing:
        contestant.step = None
    free(device)
    forget_programs()  # or the next shape's bursts might have to
    return racing


def attempt(contestant: Contestant, action: Callable[[], object]) -> None:
    """Do it, or note why the contestant leaves the race."""
    try:
        action()
    except Exception as error:
        contestant.failure = brief(error)[:LONGEST]
        contestant.step = None


def prepare(contestant: Contestant, shape: Shape, device: str, precision: str) -> None:
    """Build it, make its first steps, and find how many fill a burst."""
    free(device)
    before = 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    begun = time.perf_counter()
    contestant.step = build(contestant, shape, device, precision)
    contestant.step()
    wait(device)
    contestant.warm_up = time.perf_counter() - begun
    burst(contestant, device)
    seconds = burst(contestant, device)
    contestant.count = max(1, round(BURST_SECONDS / seconds))
    if device == "cuda":
        contestant.peak_bytes = torch.cuda.max_memory_allocated() - before


def build(
    contestant: Contestant, shape: Shape, device: str, precision: str
) -> Callable[[], object]:
    """A full step: forward, backward, clipping, AdamW."""
    config = RunConfig(model=model_config("mytnano", shape)).but(
        train={
            "precision": precision, "device": device, "batch_windows": shape.windows,
            "compile": contestant.compiled and not contestant.fleet,
        }
    )  # fmt: skip
    x, y = (ids.to(device) for ids in batch(shape, contestant.size))  # (K, B, T) each
    if not contestant.fleet:
        engine = Engine(config)

        def step() -> None:
            engine.gradients(x[0], y[0])
            engine.update(LR)

        return step
    configs = [config.but(train={"seed": seed}) for seed in range(contestant.size)]
    fleet = Fleet(configs, compile=contestant.compiled, mode=contestant.mode)
    if contestant.compiled and not fleet.program.compiled:
        raise RuntimeError("it could not be compiled")

    def fleet_step() -> None:
        fleet.compute(x, y)
        for member in fleet.members:
            member.update(LR)
        fleet.settle()

    return fleet_step


def burst(contestant: Contestant, device: str) -> float:
    """Seconds of a step, over as many as fill a burst."""
    assert contestant.step is not None
    wait(device)
    begun = time.perf_counter()
    for _ in range(contestant.count):
        contestant.step()
    wait(device)
    return (time.perf_counter() - begun) / contestant.count


def free(device: str) -> None:
    """Give back the memory of what is gone."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def guarded_agreement(shape: Shape, device: str, precision: str) -> dict[str, Any]:
    """:func:`agreement`, or why there is none."""
    try:
        return agreement(shape, device, precision)
    except Exception as error:
        return {"failure": brief(error)[:LONGEST]}


def agreement(shape: Shape, device: str, precision: str) -> dict[str, Any]:
    """A/A: losses of a fleet's members and of the same runs alone, on the same random ids.

    Returns:
        ``largest_difference``, relative, over all steps and members; ``last_difference``, the mean
        absolute difference of the last step in nats; ``seed_sd``, the standard deviation of that
        step's loss over the members, which have seeds of their own.
    """
    config = RunConfig(model=model_config("mytnano", shape)).but(
        train={"precision": precision, "device": device, "batch_windows": shape.windows}
    )
    configs = [config.but(train={"seed": seed}) for seed in range(CHECKED_MEMBERS)]
    generator = torch.Generator().manual_seed(1)
    size = (CHECKED_STEPS, CHECKED_MEMBERS, shape.windows, shape.context)
    # A few of the ids only, so that there is something to learn.
    x = torch.randint(0, min(16, shape.vocabulary), size, generator=generator).to(device)
    fleet, mine = Fleet(configs), []
    for ids in x:
        fleet.compute(ids, ids.roll(-1, -1))
        mine.append(fleet.losses.double().cpu())  # (K,)
        for member in fleet.members:
            member.update(LR)
        fleet.settle()
    alone = []
    for k, each in enumerate(configs):
        engine = Engine(each)
        for ids in x[:, k]:
            alone.append(engine.gradients(ids, ids.roll(-1, -1)).double().cpu())
            engine.update(LR)
    ours = torch.stack(mine)  # (steps, K)
    theirs = torch.stack(alone).view(CHECKED_MEMBERS, CHECKED_STEPS).t()  # (steps, K)
    apart = (ours - theirs).abs()  # (steps, K)
    return {
        "members": CHECKED_MEMBERS,
        "steps": CHECKED_STEPS,
        "largest_difference": (apart / theirs).max().item(),
        "last_difference": apart[-1].mean().item(),
        "seed_sd": theirs[-1].std().item(),
    }


def summary(shape: Shape, racing: Sequence[Contestant]) -> dict[str, Any]:
    """What one race measured, as plain values; ratios are medians of those within a round."""
    fit = [one for one in racing if not one.failure]
    alone = [one for one in fit if not one.fleet]
    best = max(alone, key=lambda one: one.speed(shape.tokens), default=None)
    rows = []
    for one in racing:
        row: dict[str, Any] = {
            "label": one.label, "size": one.size, "compiled": one.compiled, "mode": one.mode,
            "fleet": one.fleet, "failure": one.failure or None,
        }  # fmt: skip
        if not one.failure:
            row |= {
                "tokens_per_second": one.speed(shape.tokens),
                "step_seconds": one.seconds,
                "ratio": best and ratio(one, best),
                "warm_up_seconds": one.warm_up,
                "peak_bytes": one.peak_bytes,
            }
        rows.append(row)
    return {
        "tokens_per_step": shape.tokens, "best_alone": best and best.label, "contestants": rows
    }  # fmt: skip


def ratio(one: Contestant, other: Contestant) -> float:
    """How many times the tokens/s of another."""
    pairs = zip(one.seconds, other.seconds, strict=True)
    return statistics.median(one.size * b / (other.size * a) for a, b in pairs)


def table(shape: Shape, measured: dict[str, Any]) -> Table:
    """One shape's race for the terminal."""
    grid = Table(
        title=f"{shape.name}: V {shape.vocabulary}, d {shape.width}, {shape.layers} layers, "
        f"{shape.windows} x {shape.context} tokens a step of one model",
        title_justify="left",
    )
    grid.add_column("")
    for header in ("tokens/s", "x best alone", "warm-up s", "peak MB"):
        grid.add_column(header, justify="right")
    for row in measured["contestants"]:
        if row["failure"]:
            grid.add_row(row["label"], f"failed: {row['failure']}")
            continue
        peak = row["peak_bytes"]
        grid.add_row(
            row["label"],
            f"{row['tokens_per_second']:,.0f}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            f"{row['warm_up_seconds']:.1f}",
            "" if peak is None else f"{peak / 1e6:,.0f}",
        )
    check = measured["agreement"]
    grid.caption = (
        f"members and runs alone: {check['failure']}"
        if "failure" in check
        else f"losses of members and runs alone differ by at most {check['largest_difference']:.1e}"
        f" of them over {check['steps']} steps; by {check['last_difference']:.1e} nats in the last,"
        f" where seeds differ by {check['seed_sd']:.1e}"
    )
    return grid
