"""The one training loop, driven by many ranks.

Which windows a step trains on is a pure function of (seed, step), and each rank reads its
contiguous share of them. So the batches do not depend on the number of ranks, and neither does the
loss, up to the order of sums.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.distributed.checkpoint import Checkpoints, Found
from mytnano.distributed.engine import ShardedEngine, whole
from mytnano.distributed.world import World, joined
from mytnano.errors import UserError
from mytnano.model.transformer import Transformer
from mytnano.run_files import SHARED
from mytnano.terminal import is_chief
from mytnano.training.care import Care, OnProgress, unseen
from mytnano.training.engine import Engine, uneven
from mytnano.training.files import write_curve
from mytnano.training.loop import Run
from mytnano.training.text import Text
from mytnano.training.transfer import on_device


@dataclass(frozen=True)
class Begun:
    """What a rank trains.

    Attributes:
        config: resolved. text: its text.
        care: given the step that the run goes on after, how it is looked after; what goes to
            people is the chief's alone.
    """

    config: RunConfig
    text: Text
    care: Callable[[int], Care] = lambda step: Care()
    on_progress: OnProgress = unseen


def train(
    begin: Callable[[World], Begun | None],
    folder: Path,
    device: str,
    labels: dict | None = None,
    finish: Callable[[dict], None] = lambda result: None,
) -> dict | None:
    """As :func:`mytnano.training.loop.train`, on every rank that torchrun started.

    Continues from the folder's last whole checkpoint, whatever the number of ranks that saved it.
    When training is over the ranks part, and the chief alone measures the model and writes the
    run's files.

    Args:
        begin: called on every rank; None, on all of them, if there is nothing to train.
        device: ``cpu`` or ``cuda``, the same as in the config.
        finish: called on the chief with the result, before the checkpoints are deleted.

    Returns:
        The result on the chief; None on other ranks, or if there was nothing to train.

    Raises:
        UserError: on every rank, if the batch cannot be shared evenly, the checkpoint is of another
            configuration, or the disk is full.
        KeyboardInterrupt: on every rank; the checkpoint is of the last step.
    """
    result, care = None, Care()
    try:
        with joined(device) as world:
            begun = begin(world)
            if begun is None:
                return None
            world.agree(uneven(begun.config.train.batch_windows, world.size))
            folder.mkdir(parents=True, exist_ok=True)
            checkpoints = Checkpoints(folder, begun.config.hash, world)
            found, notes = checkpoints.find()
            care = world.each(lambda: begun.care(found.step if found else 0))
            for note in notes if world.chief else ():
                care.say(note)
            run = SharedRun(begun, care, folder, checkpoints, found)
            run.steps()
            run.part()
        if is_chief():
            care.trained()
            result = run.finish(labels or {})
            finish(result)
            shutil.rmtree(folder / SHARED, ignore_errors=True)
    finally:
        for recorder in care.recorders:
            recorder.close(result)
    return result


class SharedRun(Run):
    """A run's state between steps, on one rank of many; only the chief tells of it.

    Args:
        care: of this rank; see :class:`Begun`.
        checkpoints: of the folder, with the world that they are written by.
        found: the one to go on from, or None.
    """

    def __init__(
        self, begun: Begun, care: Care, folder: Path, checkpoints: Checkpoints, found: Found | None
    ) -> None:
        self.checkpoints, self.found = checkpoints, found
        self.world = world = checkpoints.world
        # Where a loss is looked at, and so may end the run, and where all write a sample together.
        log_points, prompts = world.told((care.log_points, care.prompts))
        # The last step's state is kept until its weights are in the run's files.
        care = dataclasses.replace(care, log_points=log_points, prompts=prompts, save_at_end=True)
        on_progress = begun.on_progress
        if not world.chief:
            care = dataclasses.replace(care, recorders=(), say=lambda sentence: None)
            on_progress = unseen
        super().__init__(begun.config, begun.text, folder, on_progress, care)

    def steps(self) -> None:
        """As in one process; what is being written is on the disk before this returns or raises."""
        try:
            super().steps()
        except (KeyboardInterrupt, UserError):
            self.checkpoints.wait()
            raise
        self.checkpoints.wait()

    def part(self) -> None:
        """Gather the weights at the chief, and forget the other ranks."""
        self.labels = {"ranks": self.world.size}
        self.engine = GatheredEngine(self.engine)
        del self.world, self.checkpoints

    def finish(self, labels: dict) -> dict:
        """Measure the model and write the run's files, alone."""
        return super().finish({**labels, **self.labels})

    def _engine(self) -> Engine:
        return ShardedEngine(self.config, self.world)

    def _load(self) -> tuple[int, dict] | None:
        found, self.found = self.found, None
        if found is None:
            return None
        self.checkpoints.load(self.engine, found)
        return found.step, found.history

    def _save(self, history: dict) -> None:
        self.checkpoints.save(self.engine, self.step, history)
        # Should the disk be full, all ranks must leave, or the others wait in their next step.
        self.world.each(lambda: write_curve(self.folder, history) if self.world.chief else None)

    def _agreed(self, *decisions: bool) -> tuple[bool, ...]:
        return self.world.told(decisions)

    def _read(self) -> tuple[int, int]:
        if self.world.chief:
            return super()._read()
        # Nobody asks the others how many bytes it was, and all windows would be looked up for it.
        return (self.step + 1) * self.windows.batch_size * self.windows.context, 0

    def _probed(self, x: Tensor) -> Tensor:
        if not self.world.chief:
            return x
        everything, _ = self.windows.batch(self.step)
        return torch.from_numpy(everything).to(self.world.device)

    def _batch(self) -> tuple[Tensor, Tensor]:
        world = self.world
        mine = self.windows.batch(self.step, world.rank, world.size)
        return on_device(mine, world.device)  # (B / ranks, T) each

    @property
    def _part(self) -> tuple[int, ...]:
        """Each rank drops other entries of its windows."""
        return (self.world.rank,) if self.world.rank else ()


class GatheredEngine(Engine):
    """What a finished run is measured by: the model whole, in fp32 and in the working precision.

    Made by all ranks together; only the chief keeps the weights.
    """

    def __init__(self, sharded: ShardedEngine) -> None:
        self.config, config, world = sharded.config, sharded.config, sharded.world
        self.low_precision = config.train.precision == "bf16"
        self.masters = gather(sharded.masters, world)
        self.average = None if sharded.average is None else gather(sharded.average, world)
        if not world.chief:
            return
        self.model = Transformer(config.model).to(world.device)
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(sharded.model.get_buffer(name))
        if self.low_precision:
            self.model = self.model.to(torch.bfloat16)
        self.parameters = dict(self.model.named_parameters())
        self.refresh()
        if not self.low_precision:
            self.masters = self.parameters


def gather(shards: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Named tensors whole on the chief; nothing on the others, which take part all the same."""
    gathered = {}
    for name, shard in shards.items():
        value = whole(shard.detach())
        if world.chief:
            gathered[name] = value
    return gathered
