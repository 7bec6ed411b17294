"""What attention costs over the window's length, explicit against fused: seconds, peak memory, and that they agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mytnano.model.attention import explicit_attention, fused_attention
from mytnano.training import memory

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
HEADS, HEAD_SIZE = 4, 32
TOKENS = 4096
"""Tokens of one measurement at every length, so that seconds compare: B = TOKENS / T windows."""
REPEATS = 5
KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "explicit": explicit_attention,
    "flash": fused_attention,
}


def measure(device: str, lengths: tuple[int, ...] = LENGTHS) -> dict:
    """Forward and backward of both kernels at each length, interleaved, medians; and their largest difference in fp32."""
    dtype = torch.float32
    rows = []
    for T in lengths:
        times: dict[str, list[float]] = {name: [] for name in KERNELS}
        peaks: dict[str, int] = {}
        for _ in range(REPEATS + 1):
            for name, kernel in KERNELS.items():
                seconds, peaks[name] = _once(kernel, T, device, dtype)
                times[name].append(seconds)
        for name in KERNELS:
            rows.append(
                {
                    "kernel": name,
                    "T": T,
                    "seconds": statistics.median(times[name][1:]),
                    "peak_bytes": peaks[name],
                }
            )
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
    q, k, v = _inputs(1, T, device, torch.float32)
    mask = _mask(T, device, torch.float32)
    with torch.no_grad():
        return (
            (explicit_attention(q, k, v, mask) - fused_attention(q, k, v, mask)).abs().max().item()
        )


def _once(kernel: Callable, T: int, device: str, dtype: torch.dtype) -> tuple[float, int]:
    """Seconds of one forward and backward pass, and the peak memory above what was held before it."""
    q, k, v = (x.requires_grad_() for x in _inputs(max(1, TOKENS // T), T, device, dtype))
    mask = _mask(T, device, dtype)
    memory.reset_peak(device)
    before = memory.peak_bytes(device)
    _wait(device)
    started = time.perf_counter()
    kernel(q, k, v, mask).sum().backward()
    _wait(device)
    return time.perf_counter() - started, max(0, memory.peak_bytes(device) - before)


def _inputs(B: int, T: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(T)
    shape = (B, HEADS, T, HEAD_SIZE)
    return [
        torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3)
    ]  # (B, H, T, K) each


def _mask(T: int, device: str, dtype: torch.dtype) -> Tensor:
    return torch.full((T, T), float("-inf"), device=device).triu(1).to(dtype)  # (T, T)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
