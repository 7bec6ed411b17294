"""The one training loop, driven by many ranks.

Each rank draws the same global batch, a pure function of (seed, step), and takes its contiguous
share of the windows. So the batches do not depend on the number of ranks, and neither does the
loss, up to the order of sums.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.distributed.checkpoint import Checkpoints
from mytnano.distributed.engine import ShardedEngine, whole
from mytnano.distributed.world import World
from mytnano.errors import UserError
from mytnano.model.init import stream_seed
from mytnano.model.transformer import Transformer
from mytnano.training.engine import Engine
from mytnano.training.loop import OnProgress, Run
from mytnano.training.text import Text

STATE_BYTES = 16
"""Of a parameter: fp32 weight, gradient and AdamW's two moments, all sharded."""


def train(
    config: RunConfig,
    text: Text,
    folder: Path,
    world: World,
    on_progress: OnProgress = lambda **progress: None,
    labels: dict | None = None,
) -> dict | None:
    """As :func:`mytnano.training.loop.train`, on every rank of ``world``.

    Continues from the folder's last whole checkpoint, whatever the number of ranks that saved it.

    Returns:
        The result on the chief, which alone writes the run's files; None on other ranks.

    Raises:
        UserError: on every rank, if the batch cannot be shared evenly, memory is too small, the
            checkpoint is of another configuration, or the disk is full.
    """
    world.agree(refusal(config, world))
    run = SharedRun(config, text, folder, on_progress, world)
    run.steps()
    return run.finish(labels or {})


def refusal(config: RunConfig, world: World) -> str | None:
    """Why these ranks cannot train this configuration, in a sentence, or None."""
    windows, device = config.train.batch_windows, config.train.device
    if windows % world.size:
        fits = [n for n in range(1, windows + 1) if windows % n == 0]
        nearest = min(fits, key=lambda n: (abs(n - world.size), n))
        return (
            f"a batch of {windows} windows cannot be shared evenly by {world.size} ranks: give "
            f"--nproc-per-node {nearest}, or a train.batch_windows that {world.size} divides"
        )
    needed, free = least_memory(config, world.size), free_memory(world)
    if needed > free:
        return (
            f"this model needs at least {needed / 2**30:.1f} GiB on each of {world.size} ranks "
            f"and {free / 2**30:.1f} GiB are free here ({device}): give more ranks or a smaller "
            "model"
        )
    return None


def least_memory(config: RunConfig, ranks: int) -> int:
    """Bytes that a rank needs without any activation: its shards, and the largest group gathered.

    A lower bound, so that what it refuses could not run.
    """
    with torch.device("meta"):
        model = Transformer(config.model)
    size = sum(p.numel() for p in model.parameters())
    block = max((sum(p.numel() for p in b.parameters()) for b in model.blocks), default=0)
    root = size - sum(p.numel() for p in model.blocks.parameters())
    working = 2 if config.train.precision == "bf16" else 4
    return math.ceil(STATE_BYTES * size / ranks) + working * (root + block)


def free_memory(world: World) -> int:
    """Bytes that this rank may use: of its GPU, or its part of what the machine has left."""
    if world.device.type == "cuda":
        return torch.cuda.mem_get_info(world.device)[0]
    return psutil.virtual_memory().available // world.local_size


class SharedRun(Run):
    """A run's state between steps, on one rank of many."""

    def __init__(
        self, config: RunConfig, text: Text, folder: Path, on_progress: OnProgress, world: World
    ) -> None:
        self.world = world
        self.checkpoints = Checkpoints(folder, config.hash, world)
        self.notes: list[str] = []
        quiet: Any = lambda **progress: None
        super().__init__(config, text, folder, on_progress if world.chief else quiet)

    def finish(self, labels: dict) -> dict | None:
        """Gather the weights, let the chief measure and write, drop the checkpoints."""
        self.checkpoints.wait()
        self.engine = GatheredEngine(self.engine)
        result = None
        if self.world.chief:
            result = super().finish({**labels, "ranks": self.world.size})
        self.checkpoints.drop()
        return result

    def _engine(self) -> Engine:
        return ShardedEngine(self.config, self.world)

    def _load(self) -> tuple[int, dict] | None:
        found = self.checkpoints.load(self.engine)
        if found is None:
            return None
        if found.note:
            self.notes.append(found.note)
        return found.step, found.history

    def _save(self) -> None:
        self.checkpoints.save(self.engine, self.step, self.history)

    def _agreed(self, decision: bool) -> bool:
        return self.world.told(decision)

    def _batch(self) -> tuple[Tensor, Tensor]:
        x, y = self.windows.batch(self.step)
        return self._share(x), self._share(y)

    def _share(self, ids: Any) -> Tensor:
        """This rank's contiguous windows of a batch (B, T)."""
        size = len(ids) // self.world.size
        mine = ids[self.world.rank * size : (self.world.rank + 1) * size]
        return torch.from_numpy(mine).to(self.world.device)

    def _first_windows(self, x: Tensor, count: int) -> Tensor:
        whole_batch, _ = self.windows.batch(self.step)
        return torch.from_numpy(whole_batch[:count]).to(self.world.device)

    def _gradients(self, x: Tensor, y: Tensor) -> Tensor:
        if self.config.model.dropout or self.config.model.own_code:
            # As in the plain loop, but each rank drops other entries of its windows.
            key = (self.config.train.seed, "dropout", self.config.train.salt, self.step)
            torch.manual_seed(stream_seed(*key, self.world.rank))
        return self.engine.gradients(x, y)


class GatheredEngine(Engine):
    """What a finished run is measured by: the model whole, in fp32 and in the working precision.

    Made by all ranks together; only the chief keeps the weights.
    """

    def __init__(self, sharded: ShardedEngine) -> None:
        world, config = sharded.world, sharded.config
        self.masters = {}
        for name, master in sharded.masters.items():
            value = whole(master.detach())
            if world.chief:
                self.masters[name] = value.clone()
        if not world.chief:
            return
        self.low_precision = config.train.precision == "bf16"
        self.model = Transformer(config.model).to(world.device)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self.masters[name])
            for name, buffer in self.model.named_buffers():
                buffer.copy_(sharded.model.get_buffer(name))
        if self.low_precision:
            self.model = self.model.to(torch.bfloat16)
