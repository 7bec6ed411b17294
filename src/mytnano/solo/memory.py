"""Whether a run fits into memory: halved until it does, refused before it begins, or said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.measure.memory_plan import FP32, count_weights, state_bytes
from mytnano.planning.memory import SHARE, micro_windows, training_memory
from mytnano.planning.plan import sufficient
from mytnano.training.memory import free_bytes

SURE = 20
"""A run on a CPU whose weights, gradients and moments fit so many times is not looked at closer,
which takes seconds: a pass there has 4,096 tokens, and its activations are no more than that."""


def free_for_each(device: str, local_ranks: int = 1) -> int:
    """Bytes that each of the ranks on this machine may still take."""
    return free_bytes(device) // (1 if device == "cuda" else local_ranks)


def fitting_windows(
    config: RunConfig, ranks: int, most: int, free: int, sharded: bool = False
) -> int:
    """Windows of one pass with which a step fits into ``free`` bytes of each rank.

    ``most`` if they do, else about a half, a quarter, ... of it, of which a step has passes of one
    size if it can, as each size is compiled anew; one if nothing fits. ``sharded`` as in
    :func:`~mytnano.planning.memory.training_memory`.
    """
    windows, share = most, max(1, config.train.batch_windows // ranks)
    while windows > 1:
        wanted = config.but(train={"micro_windows": windows})
        if training_memory(wanted, ranks, sharded).total <= SHARE * free:
            break
        windows = evened(-(-windows // 2), share)
    return windows


def evened(windows: int, share: int) -> int:
    """At most so many windows of one pass: those that divide ``share``, if they are half as many.

    >>> evened(13, 50), evened(13, 53)
    (10, 11)
    """
    dividing = next(n for n in range(windows, 0, -1) if share % n == 0)
    return dividing if 2 * dividing >= windows else -(-share // -(-share // windows))


def check_memory(
    config: RunConfig, ranks: int, free: int, sharded: bool = False, begun: bool = False
) -> None:
    """Refuse a run of which not even the tensors of one step fit.

    Args:
        config: resolved, with its batch.
        free: bytes of each rank.
        sharded: as in :func:`~mytnano.planning.memory.training_memory`.
        begun: the run goes on, perhaps on fewer ranks.

    Raises:
        UserError: they are predicted to take more.
    """
    weights, train = count_weights(config.model), config.train
    kept = 2 * FP32 * weights.total + state_bytes(weights, config.optim)
    if train.device == "cpu" and SURE * kept <= ranks * free:
        return
    needed = training_memory(config, ranks, sharded).tensors
    if needed <= free:
        return
    ways = [*_enough(config, ranks, free, sharded), "a smaller model"]
    advice = f"give {', '.join(ways)} or more ranks"
    if begun:  # its settings are those of its plan
        advice = "go on with more ranks, or choose another --out"
    each = f" on each of {ranks} ranks" if ranks > 1 else ""
    raise UserError(
        f"a step of this run is predicted to take {needed / 2**30:.1f} GiB{each}, and "
        f"{free / 2**30:.1f} GiB are free here ({train.device}): {advice}"
    )


def _enough(config: RunConfig, ranks: int, free: int, sharded: bool) -> list[str]:
    """Settings each of which is predicted to suffice."""

    def fit(**changes: Any) -> bool:
        changed = config.but(train=changes)
        return training_memory(changed, ranks, sharded).tensors <= free

    windows = micro_windows(config, max(1, config.train.batch_windows // ranks))
    fewer, both = sufficient(config, windows, fit)
    found = [f"micro_windows={fewer}"] if fewer else []
    if both == windows:
        found.append("recompute=true")
    elif both and not fewer:
        found.append(f"recompute=true with micro_windows={both}")
    return found


def out_of_memory(config: RunConfig, ranks: int = 1) -> UserError:
    """The sentence for a GPU whose memory ran out all the same."""
    windows = micro_windows(config, max(1, config.train.batch_windows // ranks))
    return UserError(
        f"the {config.train.device} device has too little free memory for {windows} windows at "
        f"once: give micro_windows={max(1, windows // 2)} or less, recompute=true, or a smaller "
        "model, in another --out folder"
    )


@contextlib.contextmanager
def memory_said(config: RunConfig) -> Iterator[None]:
    """A GPU's memory that ran out is the user's to fix, in a sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise out_of_memory(config) from None
