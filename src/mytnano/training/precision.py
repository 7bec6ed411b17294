"""Which arithmetic pays on this machine: measured in a second, then written into every config.

On a GPU the kind of GPU decides. Without units for it (AVX512-BF16, AMX) a processor multiplies
bf16 matrices far slower than fp32 ones, on one such CPU about a hundred times. One product tells,
so that no training step has to.
"""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

from mytnano.config import RunConfig
from mytnano.training.engine import Engine

PAYS = 1.15
"""bf16 must be this much faster than fp32 to be chosen."""

SECONDS = 0.4
"""Time spent on each precision."""

PRODUCT = 256
"""Rows and columns of the matrices whose product says whether bf16 is worth a look."""

PROBE = RunConfig().but(model={"vocab_size": 512, "context": 128}, train={"batch_windows": 8})


@functools.cache
def tokens_per_second(precision: Literal["fp32", "bf16"], device: str, threads: int) -> float:
    """Speed of full optimizer steps of a small Transformer, warmed up."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        engine = Engine(PROBE.but(train={"precision": precision, "device": device}))
        shape = (PROBE.train.batch_windows, PROBE.model.context)
        ids = torch.zeros(shape, dtype=torch.long, device=device)  # (B, T)
        steps, started = -2, time.perf_counter()
        while steps < 1 or time.perf_counter() - started < SECONDS:
            if steps == 0:
                started = time.perf_counter()
            engine.gradients(ids, ids)
            engine.update(1e-3).item()
            steps += 1
        return steps * ids.numel() / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)


def choose_precision(
    device: str, threads: int = 1
) -> tuple[Literal["fp32", "bf16"], dict[str, float]]:
    """The faster precision, and tokens/s of those that were tried; bf16 only if it might pay.

    A GPU with units for bf16 gets it: steps as small as the probe's would time launches there.
    """
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", {"bf16": tokens_per_second("bf16", device, threads)}
    tried = ("fp32", "bf16") if bf16_products_pay(device) else ("fp32",)
    speeds = {name: tokens_per_second(name, device, threads) for name in tried}
    return ("bf16" if speeds.get("bf16", 0) > PAYS * speeds["fp32"] else "fp32"), speeds


@functools.cache
def bf16_products_pay(device: str) -> bool:
    """Whether a matrix product in bf16 is faster than in fp32: without that nothing else is."""
    if device != "cpu":
        return True
    return product_seconds(torch.bfloat16) < product_seconds(torch.float32)


def product_seconds(dtype: torch.dtype) -> float:
    """The quickest of three products of matrices that fit into the cache, on the CPU."""
    a, b = torch.ones(2, PRODUCT, PRODUCT, dtype=dtype)  # (N, N) each
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return min(seconds)
