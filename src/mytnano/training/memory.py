"""Peak memory of one run inside a process that trains many, and what is still free."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from pathlib import Path

import psutil
import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@functools.cache
def keep_freed() -> None:
    """Have glibc keep what is freed instead of giving it back: each step asks for it again.

    Its own thresholds move with what is freed, and a step's tensors lie around them: then the
    kernel clears the same pages at every step. PyTorch's guide to CPUs advises another allocator
    for that; this needs none. Larger blocks still go back; what the holes between the smaller ones
    add to the peak is :data:`mytnano.measure.memory_plan.HEAP_SHARE`.
    """
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform == "linux" and not chosen:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
            libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def reset_peak(device: str) -> None:
    """Forget the peak so far, where the system can (Linux); elsewhere it stays the process's."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes(device: str) -> int:
    """Largest resident (CPU) or allocated (CUDA) memory since :func:`reset_peak`."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def free_bytes(device: str) -> int:
    """Memory that this process may still take."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return psutil.virtual_memory().available
