"""Where and with what results were made: printed beside every figure."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import psutil
import torch

import mytnano


def environment(device: str, precision: str) -> dict[str, object]:
    """Hardware, versions, commit and date, as plain values."""
    return {
        "hardware": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "device": device,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "precision": precision,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mytnano": mytnano.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def processor() -> str:
    """The processor's name, and whether it multiplies bf16."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = value
    except OSError:
        return name
    units = [
        unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags.split()
    ]
    return f"{name} ({', '.join(units)})" if units else name


def commit() -> str | None:
    """The commit of the source tree, '+' appended if it was changed; None outside a git checkout."""
    here = Path(__file__).parents[1]
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--", "."],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return top.stdout.strip() + ("+" if dirty.stdout.strip() else "")
