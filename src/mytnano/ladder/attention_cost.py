"""What attention costs over the window's length, explicit against fused.

Seconds are medians of interleaved passes in this process. Memory is counted from PyTorch's own
allocations: a process that holds freed memory re-uses it, so that its resident size hardly grows.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mytnano.designs.budgets import Budget
from mytnano.environment import environment
from mytnano.kept import kept
from mytnano.ladder.cells import Where
from mytnano.measure.turns import in_turns, wait
from mytnano.model.attention import explicit_attention, fused_attention
from mytnano.run_files import ATTENTION

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
QUICK_LENGTHS = LENGTHS[:3]
"""The lengths of a budget whose results are not comparable anyway."""

HEADS, HEAD_SIZE = 4, 32
TOKENS = 4096
"""Tokens of one pass at every length, so that seconds compare: B = TOKENS / T windows."""

REPEATS = 5

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
KERNELS: dict[str, Kernel] = {"explicit": explicit_attention, "flash": fused_attention}


def attention_cost(where: Where, budget: Budget) -> dict[str, Any]:
    """:func:`measure` on the ladder's device; measured once an output folder."""
    lengths = LENGTHS if budget.comparable else QUICK_LENGTHS
    conditions = [where.device, list(lengths), HEADS, HEAD_SIZE, TOKENS, REPEATS]
    return kept(
        where.out / ATTENTION,
        conditions,
        lambda: measure(where.device, lengths) | {"environment": environment(where.device, "fp32")},
    )


def measure(device: str, lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    """Forward and backward passes of both kernels in fp32 at each length.

    Returns:
        ``rows`` of ``{"kernel", "T", "seconds", "peak_bytes"}``, where the peak is what a pass
        holds above its inputs; ``max_abs_difference`` of the outputs; and the conditions.
    """
    rows = []
    for T in lengths:
        inputs = [*draw(max(1, TOKENS // T), T, device), causal_mask(T, device)]
        times = in_turns({k: partial(_seconds, KERNELS[k], inputs) for k in KERNELS}, REPEATS)
        for name, kernel in KERNELS.items():
            seconds = statistics.median(times[name])
            peak = peak_bytes(kernel, inputs)
            rows.append({"kernel": name, "T": T, "seconds": seconds, "peak_bytes": peak})
    return {
        "rows": rows,
        "max_abs_difference": max(difference(T, device) for T in lengths[:4]),
        "tokens": TOKENS,
        "heads": HEADS,
        "head_size": HEAD_SIZE,
        "dtype": "float32",
        "threads": torch.get_num_threads(),
    }


def difference(T: int, device: str) -> float:
    """Largest absolute difference of the two kernels' outputs on one fp32 window of T tokens."""
    inputs = [*draw(1, T, device), causal_mask(T, device)]
    with torch.no_grad():
        explicit, flash = (kernel(*inputs) for kernel in KERNELS.values())  # (1, H, T, K) each
    return (explicit - flash).abs().max().item()


def peak_bytes(kernel: Kernel, inputs: list[Tensor]) -> int | None:
    """The most memory that one forward and backward pass holds at once, above its inputs.

    None on a device that does not tell (mps).
    """
    device = inputs[0].device
    if device.type == "mps":
        return None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _pass(kernel, inputs)
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler chats on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _pass(kernel, inputs)
    events = profiler.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in changes), initial=0))


def draw(B: int, T: int, device: str) -> list[Tensor]:
    """Queries, keys and values, (B, H, T, K) each, the same on every device."""
    generator = torch.Generator().manual_seed(T)
    shape = (B, HEADS, T, HEAD_SIZE)
    return [torch.randn(shape, generator=generator).to(device).requires_grad_() for _ in range(3)]


def causal_mask(T: int, device: str) -> Tensor:
    """(T, T): -inf where a query may not look, 0 elsewhere."""
    return torch.full((T, T), float("-inf"), device=device).triu(1)


def _seconds(kernel: Kernel, inputs: list[Tensor]) -> float:
    device = inputs[0].device.type
    wait(device)
    started = time.perf_counter()
    _pass(kernel, inputs)
    wait(device)
    return time.perf_counter() - started


def _pass(kernel: Kernel, inputs: list[Tensor]) -> None:
    """Forward and backward; the gradients are dropped, so that every pass makes its own."""
    output = kernel(*inputs)  # (B, H, T, K)
    torch.autograd.grad(output.sum(), inputs[:3])
