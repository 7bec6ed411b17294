"""What a GPU does: the losses of a CPU, one rank against none, memory against the plan, speed.

    python scripts/gpu_check.py --out out/gpu.json
    python scripts/gpu_check.py --device cpu --smoke --out out/gpu.json

writes the file anew after each part, a process of its own, and what other --parts it held stays.
`agree` trains mytllm-tiny here and on the CPU in fp32, twice, and once stopped and gone on with;
`sharded` steps the plain engine and one rank of FSDP2 side by side; `memory` compares peaks with
what `mytnano plan` predicts; `eager`, `compiled` and `recompute` time whole steps of mytllm-1b on
one device, compiled anew each time. What fails is said in the file, and so is what could not be
compiled: no uncompiled speed passes for a compiled one. --smoke takes sizes that say nothing of
speed. `scripts/publish.py scale FILE` publishes the file, unless a part is of --smoke or of a CPU.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from measured_memory import measured_peak, train_steps
from memory_plan import SHAPES, config_of
from torch import Tensor
from torch._dynamo.utils import counters

from mytnano.children import be_deaf_to_ctrl_c, ctrl_c_held, leave_with_parent
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

GENTLE = {"lr": 1e-3, "warmup": 0.2}
"""At the recipe's own rate training itself amplifies rounding; docs/scale.md."""

RATE = 1e-4
BURSTS, BURST_STEPS = 5, 4
RECIPE_STEPS = 3
NO_CACHE = "TORCHINDUCTOR_FORCE_DISABLE_CACHES"


def agree(device: str, smoke: bool) -> dict[str, Any]:
    """Losses in nats per token of one run: on the CPU, here, here again (a GPU adds in any order),
    stopped and gone on with, and in bf16."""
    steps = 6 if smoke else STEPS
    ways = {"cpu": "cpu", "here": device, "again": device, "stopped": device, "bf16": device}
    curves = {}
    with tempfile.TemporaryDirectory() as name:
        for way, place in ways.items():
            precision = "bf16" if way == "bf16" else "fp32"
            act = {"device": place, "precision": precision, "train_bytes": steps * 8 * 128}
            config = MYTLLM_TINY.but(train=act, optim=GENTLE)
            config = resolve(config, Path(name), keep_context=True)
            curves[way] = curve(config, Path(name), way, steps, way == "stopped")
    from_cpu = {way: gap(curves[way], curves["cpu"]) for way in ("here", "bf16")}
    return {
        "steps": steps,
        "curves": curves,
        "from_cpu": from_cpu,
        "again": gap(curves["again"], curves["here"]),
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
    losses = (json.loads(line)["train_loss"] for line in lines)
    return [math.nan if loss is None else loss for loss in losses]


def stopping_after(care: Care, left: Any) -> Care:
    """The same care, which says to stop when ``left`` is used up."""
    return replace(care, stopping=lambda: next(left, None) is None)


def gap(one: list[float], other: list[float]) -> float:
    """The greatest difference of two curves.

    Raises:
        UserError: one of them diverged.
    """
    if len(one) != len(other) or not all(map(math.isfinite, [*one, *other])):
        raise UserError("a loss is not a number: one of two runs that should agree diverged")
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def sharded(device: str, smoke: bool) -> dict[str, Any]:
    """One rank of FSDP2 against the plain engine: losses in fp32, tokens/s in bf16.

    Each is compiled as it is for training: the plain model whole, the other block by block. One
    rank has nobody to gather from, so this is not the price of communication.
    """
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
        "graphs": compiled_graphs(),
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
    return {"shapes": found}


def peak_here(work: Callable[[], object]) -> int:
    """Bytes that a GPU's tensors take at most during some work, beyond what lay there before."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    memory.reset_peak("cuda")
    work()
    return memory.peak_bytes("cuda") - before


def recipe(**train: bool) -> Callable[[str, bool], dict[str, Any]]:
    """A way to time whole steps of mytllm-1b on one device."""
    return functools.partial(whole_steps, train)


def whole_steps(train: dict[str, bool], device: str, smoke: bool) -> dict[str, Any]:
    """Tokens/s, share of the peak and memory; the first step compiles, those after it are timed."""
    name, base = ("mytllm-tiny", MYTLLM_TINY) if smoke else ("mytllm-1b", MYTLLM_1B)
    config = base.but(train={"device": device, "precision": "bf16", **train})
    cuda = device == "cuda"
    seconds: list[float] = []
    with joined(device) as world:
        taken = peak_here(lambda: seconds.extend(steps_of(config, world))) if cuda else None
        if not cuda:
            seconds.extend(steps_of(config, world))
    first, *others = seconds
    speed = config.train.batch_windows * config.model.context / statistics.median(others)
    peak = device_named(torch.cuda.get_device_name()) if cuda else None
    flops = training_flops(config.model, 1) * speed
    expected = training_memory(config, sharded=True)
    return {
        "recipe": name,
        "batch_windows": config.train.batch_windows,
        "micro_windows": config.train.micro_windows,
        "first_step_seconds": first,
        "step_seconds": others,
        "tokens_per_second": speed,
        "flops_per_second": flops,
        "mfu": flops / peak.flops if peak else None,
        # Nothing is measured from inside in these steps.
        "predicted": expected.tensors - expected.probe,
        "measured": taken,
        "parts": asdict(expected),
        "graphs": compiled_graphs(),
    }


def steps_of(config: RunConfig, world: World) -> list[float]:
    """Seconds of the first step of one rank, and of those after it."""
    engine = ShardedEngine(config, world)
    x, y = batch(config)
    return [timed(engine, x, y, 1) for _ in range(1 + RECIPE_STEPS)]


def compiled_graphs() -> int:
    """How many graphs this process compiled: one for all blocks alike and each size of a pass."""
    return int(counters["stats"]["unique_graphs"])


PARTS: dict[str, Callable[[str, bool], dict[str, Any]]] = {
    "agree": agree,
    "sharded": sharded,
    "memory": planned,
    "eager": recipe(compile=False),
    "compiled": recipe(compile=True),
    "recompute": recipe(compile=True, recompute=True),
}
"""By the name of each."""


def attempt(name: str, device: str, smoke: bool) -> dict[str, Any]:
    """What a part gives, or why it failed: the machine may not come again."""
    warnings.filterwarnings("error", message=".*uncompiled")  # or it would be timed as compiled
    try:
        return PARTS[name](device, smoke)
    except Exception as error:  # whatever it is, what comes after must still be measured
        return {"failed": brief(error)[:300]}


def apart(name: str, device: str, smoke: bool) -> dict[str, Any]:
    """The same in a process of its own: another's memory and its broken device do not count."""
    fresh = multiprocessing.get_context("spawn")
    ours, theirs = fresh.Pipe(duplex=False)
    with ctrl_c_held():
        child = fresh.Process(target=serve, args=(theirs, name, device, smoke))
        child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return {"failed": "its process died, perhaps for memory"}
    finally:
        child.kill()
        child.join()


def serve(answers: Connection, *arguments: Any) -> None:
    """Body of that process."""
    be_deaf_to_ctrl_c()
    leave_with_parent()
    answers.send(attempt(*arguments))


def earlier(path: Path) -> dict[str, Any]:
    """The parts of an earlier file, which this makes sure can be written.

    Raises:
        UserError: it is no file of this script, or cannot be written.
    """
    found = {}
    if path.exists():
        try:
            found = json.loads(path.read_bytes())
            known = found.keys() <= PARTS.keys()
        except (OSError, ValueError, AttributeError):
            known = False
        if not known:
            raise UserError(f"{path} is no file of gpu_check: choose another --out")
    atomic_write_json(path, found)
    return found


def main(arguments: list[str]) -> int:
    """Exit code 0; 1 if a part failed, which the file says; 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--smoke", action="store_true", help="sizes that a test can afford")
    parser.add_argument("--commit", help="which this is, in a copy without its .git")
    given = parser.parse_args(arguments)
    os.environ[NO_CACHE] = "1"
    try:
        device = choose_device(given.device)
        found = earlier(given.out)
        where = environment(device, "bf16")
        where["commit"] = where["commit"] or given.commit
        about = {"smoke": given.smoke, "environment": where}
        for name in given.parts:
            print(f"{name} ...", flush=True)
            found[name] = about | apart(name, device, given.smoke)
            atomic_write_json(given.out, found)
            print(json.dumps(told(found[name]), indent=1), flush=True)
    except (UserError, OSError) as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; finished --parts are in {given.out}", file=sys.stderr)
        return 130
    return int(any("failed" in found[name] for name in given.parts))


def told(part: dict[str, Any]) -> dict[str, Any]:
    """A part without its long lists."""
    long = ("curves", "model", "environment", "parts")
    return {key: value for key, value in part.items() if key not in long}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
