"""Where results are made: the device and the processes to use, and what to print beside figures."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

import mytnano
from mytnano.config import semantics
from mytnano.errors import UserError, unknown

WORKER_BYTES = 3 << 29
"""Memory that one worker process may need beside its text: for libraries, and to train a small
model."""

TEXT_BYTES = 13
"""Memory for each byte of the corpus: itself, and where a byte is a token its id and its place."""

PRECISIONS = ("auto", "fp32", "bf16")

PACKAGES = ("numpy", "tokenizers", "tiktoken")
"""Packages besides PyTorch whose versions may move a number."""


def choose_device(wanted: str) -> str:
    """A device by name; ``auto`` is the first accelerator at hand, else the CPU.

    Raises:
        UserError: there is no such device, or this machine has none.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, there in available.items() if there)
    if wanted not in available:
        raise unknown(wanted, "a device", ["auto", *available])
    if not available[wanted]:
        raise UserError(
            f"this machine has no {wanted} device that PyTorch can use; try --device cpu"
        )
    return wanted


def check_precision(name: str) -> None:
    """Raise UserError unless it is one of :data:`PRECISIONS`."""
    if name not in PRECISIONS:
        raise unknown(name, "a precision", PRECISIONS)


@contextlib.contextmanager
def one_thread_if(wanted: bool) -> Iterator[None]:
    """Train in this process as a worker would: another number of threads moves the last digits."""
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_workers(wanted: int | None, device: str, fleet: bool = False, text: int = 0) -> int:
    """Worker processes to train with; 0 is this process alone.

    By default one a core on a CPU, with one thread each (two threads on small matrices lose more
    than they gain), as far as memory goes; and none beside a GPU, which one process fills, or for
    fleets, which train in this process.

    Args:
        text: bytes of the corpus, which each process holds for itself.
    """
    if wanted is not None:
        return wanted
    if device != "cpu" or fleet:
        return 0
    bound = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1
    each = WORKER_BYTES + TEXT_BYTES * text
    return max(1, min(cores, psutil.virtual_memory().available // each))


def environment(device: str, precision: str) -> dict[str, object]:
    """Hardware, versions, commit and date, as plain values."""
    return {
        "hardware": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "device": device,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "precision": precision,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "mytnano": mytnano.__version__,
        "semantics": semantics(precision),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def processor() -> str:
    """The processor's name, and which vector and matrix units it has (as Linux tells them)."""
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
    units = [u for u in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if u in flags.split()]
    return f"{name} ({', '.join(units)})" if units else name


def commit() -> str | None:
    """The commit of the source tree, '+' appended if it was changed; None outside its checkout."""
    try:
        # Installed into an environment inside another project, this file is not one of its own.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", str(Path(mytnano.__file__).parent))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
