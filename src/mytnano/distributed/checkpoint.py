"""Checkpoints that all ranks write together while training goes on, and that any number can read.

``torch.distributed.checkpoint`` copies the shards to memory, then writes them from a thread, one
safetensors file a rank; nothing is pickled. They go to a folder with a temporary name. When all are
on the disk the chief adds a manifest (SHA-256 of each file, step, the run's hash and its measured
history) and renames the folder. So a folder with its final name is whole, or was damaged later,
which the manifest shows. The last two are kept.

::

    <run>/checkpoints/step-00000400/
      shard-00001-model-00001-of-00001.safetensors, ...   one a rank
      manifest.json
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from mytnano.distributed.engine import ShardedEngine
from mytnano.distributed.world import World
from mytnano.errors import UserError
from mytnano.files import MANIFEST, TEMPORARY, atomic_write_json, disk_full, sha256_file
from mytnano.run_files import SHARED
from mytnano.training.checkpoint import (
    PLAIN,
    optimizer_groups,
    optimizer_state,
    restore_groups,
)

KEPT = 2
"""Checkpoints that are kept: should the last one be damaged, there is one before it."""


@dataclass(frozen=True)
class Found:
    """A whole checkpoint.

    Attributes:
        path: its folder. step: after which it was saved. history: measured so far.
        values: plain values of the optimizer's state, by place. groups: those of its groups.
        updates: steps that were not skipped.
        note: a sentence about damaged ones that were passed over.
    """

    path: Path
    step: int
    history: dict
    values: dict[str, Any]
    groups: list[dict[str, Any]]
    updates: int
    note: str | None


class Checkpoints:
    """The checkpoints of one run, as one rank sees them; methods are collective.

    Args:
        folder: the run folder, the same for all ranks (on several machines, a shared one).
        config_hash: a checkpoint of another hash is refused.
    """

    def __init__(self, folder: Path, config_hash: str, world: World) -> None:
        self.root, self.hash, self.world = Path(folder) / SHARED, config_hash, world
        self._writing: Future[str | None] | None = None

    def save(self, engine: ShardedEngine, step: int, history: dict) -> None:
        """Begin to write the state after ``step`` steps; returns when it is copied to memory.

        Raises:
            UserError: this or the save before it could not be written.
        """
        self.wait()
        name = f"step-{step:08d}"
        temporary = self.root / (TEMPORARY + name)
        tensors, values = state(engine)
        self.world.agree(self._ready(temporary) if self.world.chief else None)
        note = {
            "hash": self.hash,
            "step": step,
            "ranks": self.world.size,
            "values": values,
            "groups": optimizer_groups(engine),
            "updates": engine.updates,
            "history": json.loads(json.dumps(history)),  # as it is now
        }
        writer = dcp.HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        written = dcp.async_save(tensors, storage_writer=writer, process_group=self.world.saving)
        self._writing = Future()
        written.add_done_callback(
            functools.partial(self._written, self._writing, temporary, self.root / name, note)
        )

    def wait(self) -> None:
        """Wait until what is being written is on the disk.

        Raises:
            UserError: it could not be written; earlier checkpoints are as they were.
        """
        if self._writing is None:
            return
        refusal = self._writing.result()
        self._writing = None
        self.world.agree(refusal)

    def load(self, engine: ShardedEngine) -> Found | None:
        """Put the last whole checkpoint into the engine; None if there is none.

        A damaged one is passed over, which the note of what was found says.

        Raises:
            UserError: the last whole one is of another configuration.
        """
        found, refusal = None, None
        if self.world.chief:
            try:
                found = find(self.root, self.hash)
            except UserError as error:
                refusal = str(error)
        self.world.agree(refusal)
        found = self.world.told(found)
        if found is None:
            return None
        reader = dcp.HuggingFaceStorageReader(str(found.path))
        tensors = targets(engine, reader)
        dcp.load(tensors, storage_reader=reader, process_group=self.world.saving)
        restore(engine, found, tensors)
        return found

    def drop(self) -> None:
        """Delete all of them, when the run is finished."""
        self.wait()
        if self.world.chief:
            shutil.rmtree(self.root, ignore_errors=True)

    def _ready(self, temporary: Path) -> str | None:
        """Make an empty folder to write to, and clear away what killed saves left."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for left in self.root.glob(f"{TEMPORARY}*"):
                shutil.rmtree(left)
            temporary.mkdir()
        except OSError as error:
            return said(error, self.root)
        return None

    def _written(
        self, outcome: Future[str | None], temporary: Path, path: Path, note: dict, written: Future
    ) -> None:
        """In the writing thread, when all ranks have written: the chief seals the folder."""
        error = written.exception()
        try:
            if error is None and self.world.chief:
                seal(temporary, path, note)
        except (OSError, UserError) as unsealed:
            error = unsealed
        outcome.set_result(None if error is None else said(error, self.root))


def seal(temporary: Path, path: Path, note: dict) -> None:
    """Add the manifest, give the folder its name, and delete those before the one before it."""
    sums = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
    atomic_write_json(temporary / MANIFEST, {"files": sums, **note})
    shutil.rmtree(path, ignore_errors=True)  # a damaged one of the same step
    os.replace(temporary, path)
    for old in sorted(path.parent.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def find(root: Path, config_hash: str) -> Found | None:
    """The last whole checkpoint of a folder.

    Raises:
        UserError: it is of another configuration.
    """
    damaged: list[str] = []
    for path in sorted(Path(root).glob("step-*"), reverse=True):
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            files, step, hash = manifest["files"], manifest["step"], manifest["hash"]
            reason = damage(path, files)
        except (OSError, ValueError, KeyError, TypeError):
            reason = f"{MANIFEST} is unreadable"
        if reason:
            damaged.append(f"{path.name} is damaged ({reason})")
            continue
        if hash != config_hash:
            raise UserError(
                f"{path} is a checkpoint of another configuration ({hash}, not {config_hash}): "
                "repeat the command that began this run, or give another --out folder"
            )
        note = f"{'; '.join(damaged)}: continuing from {path.name}" if damaged else None
        groups = manifest.get("groups", [])  # which earlier versions did not write
        updates = manifest.get("updates", step)
        return Found(path, step, manifest["history"], manifest["values"], groups, updates, note)
    return None


def last_step(folder: Path) -> int:
    """Steps of the last checkpoint in a run folder, whole or not; 0 if there is none."""
    found = sorted((Path(folder) / SHARED).glob("step-*"))
    return int(found[-1].name.partition("-")[2]) if found else 0


def damage(path: Path, files: dict[str, str]) -> str | None:
    """What is wrong with the files that a manifest lists, or None."""
    for name, expected in files.items():
        try:
            if sha256_file(path / name) != expected:
                return f"{name} does not match its checksum"
        except OSError:
            return f"{name} is missing"
    return None


def state(engine: ShardedEngine) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that training goes on from, by name: tensors, sharded or not, and plain values.

    Raises:
        UserError: the optimizer keeps what cannot be written.
    """
    tensors = {f"weight/{name}": p.detach() for name, p in engine.masters.items()}
    tensors |= {f"average/{name}": p for name, p in (engine.average or {}).items()}
    values: dict[str, Any] = {}
    for place, value, _ in optimizer_state(engine):
        if isinstance(value, Tensor):
            tensors[place] = value
        elif isinstance(value, PLAIN):
            values[place] = value
        else:
            raise UserError(
                f"{type(engine.optimizer).__name__} keeps a {type(value).__name__} in its state, "
                "which a checkpoint cannot hold: keep tensors and plain numbers"
            )
    return tensors, values


def targets(engine: ShardedEngine, reader: dcp.HuggingFaceStorageReader) -> dict[str, Tensor]:
    """Tensors to read a checkpoint into: as sharded as the weights of this number of ranks."""
    tensors: dict[str, Tensor] = {}
    for place, saved in reader.read_metadata().state_dict_metadata.items():
        weight = engine.masters[place.rpartition("/")[2]].detach()
        dtype = saved.properties.dtype
        if saved.size == weight.shape:
            tensors[place] = torch.empty_like(weight, dtype=dtype)
        else:  # a counter: every rank has its own
            tensors[place] = torch.empty(saved.size, dtype=dtype, device=engine.world.device)
    return tensors


@torch.no_grad()
def restore(engine: ShardedEngine, found: Found, tensors: dict[str, Tensor]) -> None:
    """Put what :func:`state` gave, and the manifest says besides, into an engine."""
    for place, value in {**tensors, **found.values}.items():
        kind, _, name = place.rpartition("/")
        if kind == "weight":
            engine.masters[name].copy_(value)
        elif kind == "average":
            engine.average[name].copy_(value)
        else:
            state = engine.optimizer.state[engine.masters[name]]
            state[kind.removeprefix("state/")] = value
    restore_groups(engine, found.groups)
    engine.updates = found.updates


def said(error: BaseException, path: Path) -> str:
    """The sentence for a checkpoint that could not be written."""
    reason = str(disk_full(error, path) or error)
    if "No space left" in reason:
        return f"no space left on the disk for {path}; free some, then run it again"
    if isinstance(error, (OSError, UserError)):
        return reason
    lines = reason.strip().splitlines() or [type(error).__name__]
    return f"a checkpoint in {path} could not be written: {lines[-1]}"
