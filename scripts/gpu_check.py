"""What a GPU does: the losses of a CPU, one rank against none, memory against the plan, speed.

    python scripts/gpu_check.py --out out/gpu.json
    python scripts/gpu_check.py --device cpu --smoke --out out/gpu.json

writes the file anew after each part, and what other --parts it held stays. `agree` trains
mytllm-tiny here and on the CPU in fp32, stops a run and goes on with it; `sharded` steps the plain
engine and one rank of FSDP2 side by side; `memory` compares peaks with what `mytnano plan`
predicts; `recipe` times whole steps of mytllm-1b on one device. All of it takes about eight
minutes on an H100 by estimate; none was at hand to measure that. --smoke takes sizes that say
nothing of speed. `scripts/publish.py scale FILE` publishes the file.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from measured_memory import measured_peak, train_steps
from memory_plan import SHAPES, config_of
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.designs.scale import MYTLLM_1B, MYTLLM_TINY
from mytnano.distributed.engine import ShardedEngine
from mytnano.distributed.world import World, joined
from mytnano.environment import choose_device, environment
from mytnano.errors import UserError, brief
from mytnano.files import atomic_write_json
from mytnano.measure.devices import device_named
from mytnano.measure.flops import training_flops
from mytnano.planning.memory import training_memory
from mytnano.run_files import METRICS
from mytnano.training import memory
from mytnano.training.care import Care
from mytnano.training.engine import Engine
from mytnano.training.loop import train
from mytnano.training.text import prepare, resolve

STEPS = 50
TOKENS_OF_SHAPES = 2**17
"""Tokens of a step whose memory is measured on a GPU: small ones would be lost in the weights."""

MIDDLE = MYTLLM_1B.but(
    model={"layers": 6, "vocab_size": 32_768}, train={"batch_windows": 16, "micro_windows": 16}
)
"""The blocks of mytllm-1b, few enough that the plain engine compiles them as a whole quickly."""

RATE = 1e-4
BURSTS, BURST_STEPS = 5, 4
RECIPE_STEPS = 3


def agree(device: str, smoke: bool) -> dict[str, Any]:
    """Losses in nats per token of the same run on the CPU, here, stopped and gone on with, bf16."""
    steps = 6 if smoke else STEPS
    ways = {"cpu": "cpu", "here": device, "stopped": device, "bf16": device}
    curves = {}
    with tempfile.TemporaryDirectory() as name:
        for way, place in ways.items():
            precision = "bf16" if way == "bf16" else "fp32"
            act = {"device": place, "precision": precision, "train_bytes": steps * 8 * 128}
            config = resolve(MYTLLM_TINY.but(train=act), Path(name), keep_context=True)
            curves[way] = curve(config, Path(name), way, steps, way == "stopped")
    apart = {way: gap(curves[way], curves["cpu"]) for way in ("here", "bf16")}
    return {
        "steps": steps,
        "curves": curves,
        "from_cpu": apart,
        "stopped_from_whole": gap(curves["stopped"], curves["here"]),
    }


def curve(config: RunConfig, root: Path, name: str, steps: int, stopped: bool) -> list[float]:
    """The loss of every step; of a run that is stopped halfway and goes on, if so asked."""
    text, care = prepare(config.data, root), Care(log_points=steps)
    if stopped:
        left = iter(range(steps // 2))
        try:
            train(config, text, root / name, care=stopping_after(care, left))
        except KeyboardInterrupt:
            pass
        else:
            raise UserError("the run that was to be stopped went on to its end")
    train(config, text, root / name, care=care)
    lines = (root / name / METRICS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


def stopping_after(care: Care, left: Any) -> Care:
    """The same care, which says to stop when ``left`` is used up."""
    return replace(care, stopping=lambda: next(left, None) is None)


def gap(one: list[float], other: list[float]) -> float:
    """The greatest difference of two curves."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def sharded(device: str, smoke: bool) -> dict[str, Any]:
    """One rank of FSDP2 against the plain engine: losses in fp32, tokens/s and memory in bf16."""
    with joined(device) as world:
        exact = (MYTLLM_TINY if smoke else MIDDLE).but(
            train={"device": device, "precision": "fp32", "compile": False, "micro_windows": 4}
        )
        losses = [first_losses(make(exact), exact) for make in makers(world)]
        fast = exact.but(
            train={
                "precision": "bf16",
                "compile": not smoke,
                "micro_windows": exact.train.batch_windows,
            }
        )
        speeds = race({name: make(fast) for name, make in zip(NAMES, makers(world), strict=True)})
    plain, ranked = (statistics.median(speeds[name]) for name in NAMES)
    return {
        "steps": len(losses[0]),
        "loss_gap": gap(*losses),
        "tokens_per_second": speeds,
        "ratio": ranked / plain,
        "model": fast.model.model_dump(),
    }


NAMES = ("plain", "sharded")


def makers(world: World) -> tuple[Callable[[RunConfig], Engine], ...]:
    return Engine, lambda config: ShardedEngine(config, world)


def batch(config: RunConfig) -> tuple[Tensor, Tensor]:
    """A step's random inputs and targets, (B, T) each, on the config's device."""
    generator = torch.Generator().manual_seed(0)
    shape = (config.train.batch_windows, config.model.context + 1)
    ids = torch.randint(0, config.model.vocab_size, shape, generator=generator)  # (B, T+1)
    ids = ids.to(config.train.device)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def first_losses(engine: Engine, config: RunConfig, steps: int = 10) -> list[float]:
    """Losses of a few steps on the same batch."""
    x, y = batch(config)
    found = []
    for _ in range(steps):
        found.append(engine.gradients(x, y).item())
        engine.update(RATE)
    return found


def race(engines: dict[str, Engine]) -> dict[str, list[float]]:
    """Tokens/s of bursts of steps, the engines in turn."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for burst in range(BURSTS + 1):
        for name, engine in engines.items():
            seconds = timed(engine, *batch(engine.config), BURST_STEPS)
            if burst:  # the first one compiles
                train = engine.config.train
                tokens = BURST_STEPS * train.batch_windows * engine.config.model.context
                speeds[name].append(tokens / seconds)
    return speeds


def timed(engine: Engine, x: Tensor, y: Tensor, steps: int) -> float:
    """Seconds of whole steps."""
    wait(engine.config.train.device)
    started = time.perf_counter()
    for _ in range(steps):
        engine.gradients(x, y)
        engine.update(RATE)
    wait(engine.config.train.device)
    return time.perf_counter() - started


def wait(device: str) -> None:
    """Until the device has done all that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def planned(device: str, smoke: bool) -> dict[str, Any]:
    """Peak bytes of tensors over a few steps of each shape, and what the plan says."""
    found = {}
    for name in list(SHAPES)[: 1 if smoke else None]:
        config = config_of(name)
        if device == "cuda":
            windows = TOKENS_OF_SHAPES // config.model.context
            config = config.but(train={"batch_windows": windows, "device": device})
            peak = peak_here(lambda config=config: train_steps(config))
        else:
            peak = measured_peak(config, tensors_only=True)
        expected = training_memory(config).tensors
        found[name] = {"predicted": expected, "measured": peak, "ratio": expected / peak}
    return found


def peak_here(work: Callable[[], object]) -> int:
    """Bytes that a GPU's tensors take at most during some work, beyond what lay there before."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    memory.reset_peak("cuda")
    work()
    return memory.peak_bytes("cuda") - before


def recipe(device: str, smoke: bool) -> dict[str, Any]:
    """Tokens/s, share of the peak and memory of whole steps of mytllm-1b, in three ways."""
    base = (MYTLLM_TINY if smoke else MYTLLM_1B).but(train={"device": device, "precision": "bf16"})
    ways: dict[str, dict[str, bool]] = {"eager": {"compile": False}}
    if not smoke:
        ways |= {"compiled": {"compile": True}}
        ways |= {"compiled, recompute": {"compile": True, "recompute": True}}
    found = {}
    with joined(device) as world:
        for name, train in ways.items():
            found[name] = attempt(lambda train=train: whole_steps(base.but(train=train), world))
            gc.collect()
    return {"batch_windows": base.train.batch_windows, "ways": found}


def whole_steps(config: RunConfig, world: World) -> dict[str, Any]:
    """One way of a recipe: its first step compiles, those after it are timed."""
    cuda = config.train.device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        memory.reset_peak("cuda")
    engine = ShardedEngine(config, world)
    x, y = batch(config)
    first = timed(engine, x, y, 1)
    seconds = [timed(engine, x, y, 1) for _ in range(RECIPE_STEPS)]
    tokens = x.numel()
    speed = tokens / statistics.median(seconds)
    peak = device_named(torch.cuda.get_device_name()) if cuda else None
    flops = training_flops(config.model, 1) * speed
    expected = training_memory(config, sharded=True)
    taken = memory.peak_bytes("cuda") if cuda else None
    return {
        "first_step_seconds": first,
        "step_seconds": seconds,
        "tokens_per_second": speed,
        "flops_per_second": flops,
        "mfu": flops / peak.flops if peak else None,
        # Nothing is measured from inside in these steps.
        "predicted": expected.tensors - expected.probe,
        "measured": taken,
        "parts": asdict(expected),
    }


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part gives, or why it failed: a machine that is lent may not be there again."""
    try:
        return work()
    except Exception as error:  # whatever it is, what comes after must still be measured
        return {"failed": brief(error)[:300]}


PARTS: dict[str, Callable[[str, bool], dict[str, Any]]] = {
    "agree": agree,
    "sharded": sharded,
    "memory": planned,
    "recipe": recipe,
}


def main(arguments: list[str]) -> int:
    """Exit code 0; 1 if a part failed, which the file says; 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--smoke", action="store_true", help="sizes that a test can afford")
    given = parser.parse_args(arguments)
    try:
        device = choose_device(given.device)
        found = json.loads(given.out.read_bytes()) if given.out.exists() else {}
        for name in given.parts:
            print(f"{name} ...", flush=True)
            found[name] = attempt(lambda name=name: PARTS[name](device, given.smoke))
            found |= {"smoke": given.smoke, "environment": environment(device, "bf16")}
            atomic_write_json(given.out, found)
            print(json.dumps(told(found[name]), indent=1), flush=True)
    except (UserError, OSError, ValueError) as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    return int(any(failed(found[name]) for name in given.parts))


def failed(part: dict[str, Any]) -> bool:
    """Whether a part, or one of its ways, has failed."""
    return any("failed" in each for each in (part, *part.get("ways", {}).values()))


def told(part: dict[str, Any]) -> dict[str, Any]:
    """A part without its long lists."""
    return {key: value for key, value in part.items() if key not in ("curves", "model")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
