"""Seconds of an optimizer step of each design, alone on the machine: what equal time would mean.

A step is timed in a process of its own, with the threads and the precision of the runs and on
random ids, as speed does not depend on the text. Designs take turns, so that a machine that slows
down slows all. On a machine that does something else the figures are void, and are marked so.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.lab.plan import Arm
from mytnano.training.engine import Engine

WARM, STEPS, ROUNDS = 3, 20, 3
"""Steps that are not timed, steps that are, and turns of each design."""

QUIET = 10.0
"""Percent of all cores' time that others may use before the figures are void."""

_MAIN = "from mytnano.lab.steptime import main; main()"


@dataclass(frozen=True)
class Times:
    """What was measured.

    Attributes:
        seconds: design -> median of a step.
        steps: design -> steps of a run.
        busy: percent of all cores' time that was used before the measurement began.
    """

    seconds: dict[str, float]
    steps: dict[str, int]
    busy: float

    @property
    def void(self) -> bool:
        """Whether the machine was too busy for the figures to mean anything."""
        return self.busy > QUIET

    def run(self, name: str) -> float:
        """Seconds of all steps of a run."""
        return self.seconds[name] * self.steps[name]


def measure_times(arms: Sequence[Arm]) -> Times:
    """Time every design.

    Raises:
        UserError: a step cannot be timed.
    """
    busy = psutil.cpu_percent(interval=1.0)
    found: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(ROUNDS):
        for arm in arms:
            found[arm.name] += _alone(arm)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    return Times(medians, {arm.name: arm.config.steps for arm in arms}, busy)


def _alone(arm: Arm) -> list[float]:
    """Seconds of each timed step, in a fresh process."""
    threads = "1" if arm.config.train.device == "cpu" else str(os.cpu_count() or 1)
    done = subprocess.run(
        [sys.executable, "-c", _MAIN],
        input=arm.config.model_dump_json(),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"a step of {arm.name} cannot be timed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Body of the process: a config on standard input, seconds on standard output."""
    config = RunConfig.model_validate_json(sys.stdin.read())
    print(json.dumps(timed_steps(config)))


def timed_steps(config: RunConfig) -> list[float]:
    """Seconds of each of ``STEPS`` optimizer steps of a resolved run."""
    engine, device = Engine(config), config.train.device
    generator = torch.Generator().manual_seed(0)
    shape = (config.train.batch_windows, config.model.context + 1)
    ids = torch.randint(0, config.model.vocab_size, shape, generator=generator)  # (B, T+1)
    x, y = ids[:, :-1].to(device), ids[:, 1:].to(device)
    seconds = []
    for step in range(WARM + STEPS):
        started = time.perf_counter()
        engine.gradients(x, y)
        engine.update(config.optim.lr).item()  # waits for the device
        if step >= WARM:
            seconds.append(time.perf_counter() - started)
    return seconds
