"""The training loop's runs, many at a time: each is a :class:`~mytnano.training.loop.Run`.

What a member logs, validates, saves and leaves is written by the same code as for a run alone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.training import memory
from mytnano.training.care import OnProgress, unseen
from mytnano.training.fleet import Fleet
from mytnano.training.loop import Run
from mytnano.training.text import Text
from mytnano.training.transfer import on_device


@dataclass(frozen=True)
class Entry:
    """One run of a fleet: arguments as of :func:`mytnano.training.loop.train`."""

    config: RunConfig
    folder: Path
    on_progress: OnProgress = unseen
    labels: dict = field(default_factory=dict)


def train_fleet(
    entries: Sequence[Entry],
    text: Text,
    on_finished: Callable[[Entry, dict], None] = lambda entry, result: None,
) -> list[dict]:
    """Train resolved configs of one shape together, measure each, and write each one's files.

    Every member continues from its own folder's checkpoint if there is one, at whatever step that
    is. A result also says how many trained together, as ``fleet``; its time and memory are those of
    all of them, so the speed of a design is measured on runs alone.

    Args:
        entries: the runs. text: of all of them.
        on_finished: called with a run and its result as soon as its files are written.

    Returns:
        The results, in the order of the entries.

    Raises:
        ValueError: the configs cannot be one fleet.
        UserError: the text is too short for a window, or the disk is full.
    """
    gc.collect()  # an earlier fleet and its members name each other
    memory.reset_peak(entries[0].config.train.device)
    fleet = Fleet([entry.config for entry in entries])
    runs = []
    for entry, member in zip(entries, fleet.members, strict=True):
        entry.folder.mkdir(parents=True, exist_ok=True)
        runs.append(MemberRun(entry.config, text, entry.folder, entry.on_progress, engine=member))
    results: dict[int, dict] = {}

    def finish_ended() -> None:
        for k, (entry, run) in enumerate(zip(entries, runs, strict=True)):
            if k not in results and not run.running:
                results[k] = run.finish(entry.labels | {"fleet": fleet.size})
                on_finished(entry, results[k])

    for member in fleet.members:
        member.model.train()
    finish_ended()
    batches = Batches(runs, fleet.device)
    while active := [run for run in runs if run.running]:
        make_round(fleet, active, batches)
        for run in active:
            run.record()
            run.look_after()
        finish_ended()
    return [results[k] for k in range(len(entries))]


class MemberRun(Run):
    """A run whose batch is a part of the fleet's."""

    batch: tuple[Tensor, Tensor]

    def _batch(self) -> tuple[Tensor, Tensor]:
        return self.batch


class Batches:
    """Every run's windows of its own next step, as one pair of tensors."""

    def __init__(self, runs: Sequence[MemberRun], device: torch.device) -> None:
        self._runs, self._device = runs, device
        self._held = [run.windows.batch(0) for run in runs]  # (B, T), (B, T) each

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets (K, B, T); of a run that has ended, its last ones."""
        for k, run in enumerate(self._runs):
            if run.running:
                self._held[k] = run.windows.batch(run.step)
        both = [np.stack(each) for each in zip(*self._held, strict=True)]  # (K, B, T) each
        x, y = on_device(both, self._device)  # (K, B, T) each
        for k, run in enumerate(self._runs):
            run.batch = x[k], y[k]
        return x, y


def make_round(fleet: Fleet, active: Sequence[Run], batches: Batches) -> None:
    """One optimizer step of every active run; each is charged the time of the whole round."""
    begun = time.perf_counter()
    before = [run.history["train_seconds"] for run in active]
    fleet.compute(*batches.next())
    for run in active:
        run.optimise()
    fleet.settle()
    if any(run.due for run in active):
        fleet.wait()
    seconds = time.perf_counter() - begun
    for run, earlier in zip(active, before, strict=True):
        run.history["train_seconds"] = earlier + seconds
