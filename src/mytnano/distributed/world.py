"""The processes that train one model together: who they are, how they meet, agree and part.

``torchrun`` starts one process (a rank) a device and tells each its place in environment variables.
The first rank, the chief, alone prints and writes the run's files; what depends on the clock or on
the disk it decides for all, as ranks that disagree would wait for each other for ever.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from mytnano.errors import UserError
from mytnano.terminal import under_torchrun

T = TypeVar("T")

ALONE = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
"""What torchrun tells a rank, and what holds for a process that it did not start."""

_meetings = itertools.count()

PATIENCE = datetime.timedelta(hours=24)
"""How long ranks wait while the chief prepares the text. A dead rank is noticed at once: torchrun
ends the others."""


@dataclass
class World:
    """The ranks of one run, as one of them sees it.

    Attributes:
        rank, size: which one this is, and how many there are.
        local_size: how many there are on this machine.
        device: where this one computes.
        mesh: all ranks in one dimension; weights and batches are sharded over it.
        saving: a group of its own for checkpoints, which are written while training goes on.
        store: where ranks leave each other notes.
    """

    rank: int
    size: int
    local_size: int
    device: torch.device
    mesh: DeviceMesh
    saving: dist.ProcessGroup
    store: dist.Store
    _works: Iterator[int] = field(default_factory=itertools.count)

    @property
    def chief(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0

    def from_chief(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on the chief, on every rank, however long it takes there.

        Raises:
            UserError: on every rank, if the chief's work raised it.
        """
        value, refusal, key = None, None, f"work-{next(self._works)}"
        if self.chief:
            try:
                value = work()
            except UserError as error:
                refusal = str(error)
            self.store.set(key, "done")
        else:
            self.store.wait([key], PATIENCE)
        self.agree(refusal)
        return self.told(value)

    def each(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on this rank, once it is done on all.

        Raises:
            UserError: on every rank, if the work of one raised it.
        """
        value, refusal = None, None
        try:
            value = work()
        except UserError as error:
            refusal = str(error)
        self.agree(refusal)
        return value

    def told(self, value: Any) -> Any:
        """The chief's value, on every rank; a small one that can be pickled."""
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def agree(self, refusal: str | None) -> None:
        """Go on if no rank has an objection.

        Raises:
            UserError: on every rank, the objection of the first that has one.
        """
        said: list[str | None] = [None] * self.size
        dist.all_gather_object(said, refusal)
        for sentence in said:
            if sentence is not None:
                raise UserError(sentence)


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Meet the other ranks, and part from them in the end; a process of its own is the only one.

    Whoever calls this must drop model and optimizer before the block ends: a process that ends
    while their groups are alive is sometimes aborted after all its work is done.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (NCCL, one device a rank).

    Raises:
        UserError: there are fewer devices than ranks, or ranks cannot meet on such a device.
    """
    place = {name: int(os.environ[name]) if under_torchrun() else alone for name, alone in ALONE}
    local, local_size = place["LOCAL_RANK"], place["LOCAL_WORLD_SIZE"]
    if device not in ("cpu", "cuda"):
        raise UserError(f"ranks cannot talk to each other on {device}: give --device cpu or cuda")
    here = torch.device("cpu")
    if device == "cuda":
        count = torch.cuda.device_count()
        if local_size > count:
            raise UserError(
                f"{local_size} ranks need {local_size} GPUs and this machine has {count}: "
                f"give --nproc-per-node {max(count, 1)}"
            )
        torch.cuda.set_device(local)
        here = torch.device("cuda", local)
    store = meeting_place()
    dist.init_process_group(
        "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
        store=store,
        rank=place["RANK"],
        world_size=place["WORLD_SIZE"],
        device_id=None if device == "cpu" else here,
    )
    world = World(
        dist.get_rank(),
        dist.get_world_size(),
        local_size,
        here,
        init_device_mesh(device, (dist.get_world_size(),)),
        dist.new_group(backend="gloo"),
        store,
    )
    try:
        yield world
        dist.barrier()
    finally:
        del world.mesh, world.saving, world.store
        gc.collect()
        dist.destroy_process_group()


def meeting_place() -> dist.Store:
    """The store in which ranks find each other's addresses.

    After a restart torchrun's store still holds those of the ranks that died, and PyTorch 2.13
    would connect to them, so each attempt has a section of its own. On several machines the number
    of restarts may differ, and torchrun's own way is kept.
    """
    if not under_torchrun():
        return dist.HashStore()
    store, _, _ = next(dist.rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return store
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    return dist.PrefixStore(f"attempt-{attempt}-{next(_meetings)}", store)
