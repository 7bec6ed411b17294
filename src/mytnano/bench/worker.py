"""A contestant's process: it builds and warms up its step, then times bursts of steps on demand.

A process of its own gives every contestant its own peak memory, allocator and compiled code, and
lets it sit idle, holding its model, while another one is timed.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from mytnano.bench import steps
from mytnano.bench.shapes import Contestant, Precision
from mytnano.errors import brief
from mytnano.training import memory

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's own switch; it is read once, at the first allocation."""

GEMM = 2048
"""Rows and columns of the matrices whose product is this machine's peak."""


@dataclass(frozen=True)
class Ready:
    """Warmed up. ``compile_seconds`` is what the first step took longer than the second."""

    compile_seconds: float


@dataclass(frozen=True)
class Burst:
    """Seconds of each timed step, by the clock and of all cores' work."""

    seconds: list[float]
    cpu_seconds: list[float]


@dataclass(frozen=True)
class Failed:
    """Why a contestant cannot race, in one line."""

    reason: str


def serve(
    connection: Connection,
    contestant: Contestant | None,
    threads: int,
    nanogpt: Path | None,
    precision: Precision,
) -> None:
    """Body of the process. ``None`` as contestant is the matrix product that measures the peak.

    ``precision`` is that product's.

    Sends :class:`Ready` or :class:`Failed`. Then for each number of seconds that it receives it
    sends a :class:`Burst`, and for None the peak memory in bytes above what imports took.
    """
    silence()
    os.environ.pop(HUGE_PAGES, None)
    if contestant is None or contestant.huge_pages:
        os.environ[HUGE_PAGES] = "1"
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            torch.set_num_threads(threads)
            build = prepare(contestant, nanogpt, precision)
            memory.reset_peak("cpu")
            imported = memory.peak_bytes("cpu")
            step = build()
            first, second = (timed(step)[0] for _ in range(2))
            connection.send(Ready(max(0.0, first - second)))
            while (seconds := connection.recv()) is not None:
                connection.send(burst(step, seconds))
            connection.send(memory.peak_bytes("cpu") - imported)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            connection.send(Failed(brief(error)[:200]))


def prepare(
    contestant: Contestant | None, nanogpt: Path | None, precision: Precision
) -> Callable[[], Callable]:
    """Import all that the contestant needs; return what then builds its step."""
    if contestant is None:
        return lambda: matrix_product(precision)
    if contestant.compiled:
        import torch._inductor.compile_fx  # noqa: F401  (else the first compilation imports it)
    if contestant.family == "mytNano":
        return lambda: steps.our_step(contestant)
    if contestant.family == "nanoGPT":
        module = steps.nanogpt_module(nanogpt)
        return lambda: steps.nanogpt_step(contestant, module)
    from transformers import LlamaForCausalLM  # noqa: F401

    return lambda: steps.llama_step(contestant)


def matrix_product(precision: Precision) -> Callable[[], object]:
    """A large matrix product into memory that is already there."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b, out = (torch.ones(GEMM, GEMM, dtype=dtype) for _ in range(3))  # (N, N)
    return lambda: torch.mm(a, b, out=out)


def burst(step: Callable[[], object], seconds: float) -> Burst:
    """One step to warm the caches, then timed ones for about ``seconds``, at least one."""
    step()
    times = [timed(step)]
    while sum(wall for wall, _ in times) + statistics.median(w for w, _ in times) < seconds:
        times.append(timed(step))
    return Burst([wall for wall, _ in times], [cpu for _, cpu in times])


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def silence() -> None:
    """Send what libraries print to nowhere: the race has its own display."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
