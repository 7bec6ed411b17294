"""Checkpoints that all ranks write together while training goes on, and that any number can read.

``torch.distributed.checkpoint`` copies the shards to memory, then writes them from a thread, one
safetensors file a rank; nothing is pickled. They go to a folder with a temporary name. When all are
on the disk the chief adds a manifest (SHA-256 of each file, step, the run's hash and its measured
history) and renames the folder. So a folder with its final name is whole, or was damaged later,
which the manifest shows. The last two are kept; a damaged one is moved aside.

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
from mytnano.files import MANIFEST, TEMPORARY, atomic_write_json, damage, disk_full, sha256_file
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
    """

    path: Path
    step: int
    history: dict
    values: dict[str, Any]
    groups: list[dict[str, Any]]
    updates: int


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
            "updates": engine.updates,
            # As text, which holds a loss that is no number too; and as they are now.
            "values": json.dumps(values),
            "groups": json.dumps(optimizer_groups(engine)),
            "history": json.dumps(history),
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

    def find(self) -> tuple[Found | None, list[str]]:
        """As :func:`find`, which the chief does for all.

        Raises:
            UserError: the last whole one is of another configuration, or a damaged one cannot be
                moved aside.
        """

        def search() -> tuple[Found | None, list[str]]:
            try:
                return find(self.root, self.hash)
            except OSError as error:
                raise UserError(f"a damaged checkpoint cannot be moved aside: {error}") from None

        return self.world.from_chief(search)

    def load(self, engine: ShardedEngine, found: Found) -> None:
        """Put what was found into the engine."""
        reader = dcp.HuggingFaceStorageReader(str(found.path))
        tensors = targets(engine, reader)
        dcp.load(tensors, storage_reader=reader, process_group=self.world.saving)
        restore(engine, found, tensors)

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
        except Exception as unsealed:  # whatever it is, those who wait must hear of it
            error = unsealed
        outcome.set_result(None if error is None else said(error, self.root))


def seal(temporary: Path, path: Path, note: dict) -> None:
    """Add the manifest, give the folder its name, and delete those before the one before it.

    What claims to be as far, or farther, was passed over when this run began: it is moved aside.
    """
    sums = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
    atomic_write_json(temporary / MANIFEST, {"files": sums, **note})
    others = sorted(path.parent.glob("step-*"))
    for stale in (other for other in others if other.name >= path.name):
        put_aside(stale)
    os.replace(temporary, path)
    for old in [other for other in others if other.name < path.name][: 1 - KEPT]:
        shutil.rmtree(old)


def find(root: Path, config_hash: str) -> tuple[Found | None, list[str]]:
    """The last whole checkpoint of a folder, and a sentence for each damaged one before it.

    Those are moved aside, or they would count among the last ones, which are kept.

    Raises:
        UserError: it is of another configuration.
    """
    notes: list[str] = []
    for path in sorted(Path(root).glob("step-*"), reverse=True):
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            hash, reason = manifest["hash"], None
            if hash == config_hash:
                found, reason = _found(path, manifest), damage(path, manifest["files"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            reason = f"{MANIFEST} is unreadable"
        if reason:
            notes.append(f"{path.name} is damaged ({reason}): it is kept as {put_aside(path).name}")
            continue
        if hash != config_hash:
            raise UserError(
                f"{path} is a checkpoint of another configuration ({hash}, not {config_hash}): "
                "repeat the command that began this run, or give another --out folder"
            )
        return found, notes
    if notes:
        notes.append("no whole checkpoint is left, so the run starts from its beginning")
    return None, notes


def _found(path: Path, manifest: dict[str, Any]) -> Found:
    step = manifest["step"]
    # The lists of groups are missing in what earlier versions wrote, and nothing there is text.
    history, values, groups = (
        json.loads(value) if isinstance(value, str) else value
        for value in (manifest["history"], manifest["values"], manifest.get("groups", []))
    )
    return Found(path, step, history, values, groups, manifest.get("updates", step))


def put_aside(path: Path) -> Path:
    """Rename a checkpoint so that nothing reads or counts it; returns its new place."""
    number = 1
    while (aside := path.with_name(f"aside-{number}-{path.name}")).exists():
        number += 1
    path.rename(aside)
    return aside


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
