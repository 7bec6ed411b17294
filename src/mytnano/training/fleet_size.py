"""Whether fleets pay on a device, and how many members its memory holds: both measured here."""

from __future__ import annotations

import functools
import gc
import time
from typing import Literal

import torch

from mytnano.config import RunConfig
from mytnano.model.skeleton import parameter_count
from mytnano.training import memory
from mytnano.training.fleet import Fleet, signature
from mytnano.training.optimizers import STATE_BYTES
from mytnano.training.precision import PAYS, PROBE, SECONDS, tokens_per_second

LARGEST = 16
"""Members of one fleet at most: more would make longer waits until something is finished."""

_footprints: dict[str, tuple[int, int]] = {}
"""Shape -> bytes that one member takes, and bytes of each further one."""

SHARE = 0.8
"""Of the free memory that a fleet may take."""


@functools.cache
def fleets_pay(device: str, precision: Literal["fp32", "bf16"]) -> bool:
    """Whether eight small models together train markedly faster than one after the other.

    Never on a CPU, where one small model already keeps a core busy.
    """
    if device != "cuda":
        return False
    alone = tokens_per_second(precision, device, 1)
    return fleet_tokens_per_second(8, precision, device) > PAYS * alone


def fleet_tokens_per_second(size: int, precision: Literal["fp32", "bf16"], device: str) -> float:
    """Speed of full steps of so many small Transformers, uncompiled and warmed up, in total."""
    config = PROBE.but(train={"precision": precision, "device": device})
    fleet = Fleet([config] * size, compile=False)
    steps, started = -2, time.perf_counter()
    while steps < 1 or time.perf_counter() - started < SECONDS:
        if steps == 0:
            started = time.perf_counter()
        step(fleet, config)
        steps += 1
    tokens = size * config.train.batch_windows * config.model.context
    return steps * tokens / (time.perf_counter() - started)


def step(fleet: Fleet, config: RunConfig) -> None:
    """One full step on zeros, waited for."""
    shape = fleet.size, config.train.batch_windows, config.model.context
    ids = torch.zeros(shape, dtype=torch.long, device=fleet.device)  # (K, B, T)
    fleet.compute(ids, ids)
    for member in fleet.members:
        member.update(1e-3)
    fleet.settle()
    fleet.wait()


def largest_fleet(config: RunConfig, wanted: int) -> int:
    """How many of ``wanted`` members fit into the memory that is free, at least one.

    Found by a dry run of one member and one of two, whose difference is what a member takes.
    """
    wanted = min(wanted, LARGEST)
    if wanted < 2:
        return 1
    key = signature(config)
    if key not in _footprints:
        try:
            one, two = (dry_run(config, size) for size in (1, 2))
        except torch.OutOfMemoryError:  # of two, or of one, which the run itself will then say
            one, two = 0, memory.free_bytes(config.train.device) * 2
        _footprints[key] = one, max(two - one, member_bytes(config))
    one, each = _footprints[key]
    gc.collect()  # the fleets of the dry runs, which would count as memory in use
    room = SHARE * memory.free_bytes(config.train.device) - one
    return max(1, min(wanted, int(room // each) + 1))


def member_bytes(config: RunConfig) -> int:
    """Weights, their gradients and two moments of one member, all in fp32."""
    return STATE_BYTES * parameter_count(config.model)


def dry_run(config: RunConfig, size: int) -> int:
    """Bytes that a step of so many members takes at its peak, uncompiled."""
    device = config.train.device
    gc.collect()
    memory.reset_peak(device)
    before = memory.peak_bytes(device)
    step(Fleet([config] * size, compile=False), config)
    return max(0, memory.peak_bytes(device) - before)
