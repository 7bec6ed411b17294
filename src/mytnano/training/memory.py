"""Peak memory of one run inside a process that trains many, and what is still free."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch


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
