"""The memory that training steps really take on this CPU: in a process of its own, by its peak.

    python scripts/measured_memory.py '{"model": {...}, "train": {...}}'

prints the peak beyond what the libraries had taken before, in bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys

import psutil
import torch

from mytnano.config import RunConfig
from mytnano.training import memory
from mytnano.training.engine import Engine
from mytnano.training.probe import Probe

STEPS, PROBED = 3, 1
"""The optimizer makes its state in the first; the others find the heap with its holes, and one of
them is seen from inside."""


def measured_peak(config: RunConfig, tensors_only: bool = False) -> int:
    """Peak bytes of a few steps of ``config``, measured in a fresh process with one thread.

    Args:
        tensors_only: have glibc give every freed tensor back to the system at once, so that
            resident memory is what tensors take.

    Raises:
        subprocess.CalledProcessError: the process failed, perhaps for memory.
    """
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(config.model_dump())],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536"} if tensors_only else {}),
    )
    return int(done.stdout)


def peak_of_steps(config: RunConfig) -> int:
    """As :func:`measured_peak`, in this process."""
    torch.set_num_threads(1)
    small = {"layers": 1, "vocab_size": 512, "context": 64}
    train_steps(config.but(model=small, train={"batch_windows": 2}))  # loads what kernels need
    _settle()
    memory.reset_peak("cpu")
    before = psutil.Process().memory_info().rss
    train_steps(config)
    return memory.peak_bytes("cpu") - before


def train_steps(config: RunConfig) -> None:
    """A few steps on random ids."""
    engine = Engine(config)
    shape = (config.train.batch_windows, config.model.context + 1)
    ids = torch.randint(0, config.model.vocab_size, shape, device=config.train.device)  # (B, T+1)
    x, y = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()  # (B, T)
    for step in range(STEPS):
        probe = Probe(engine, x) if step == PROBED else None
        engine.gradients(x, y)
        if probe is not None:
            probe.gradients()
        engine.update(1e-4)
        if probe is not None:
            probe.update()


def _settle() -> None:
    """Give what is free back to the system, where the C library can."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    print(peak_of_steps(RunConfig.model_validate(json.loads(sys.argv[1]))))
