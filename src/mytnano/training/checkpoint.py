"""The state of an unfinished run in one safetensors file: checksummed, atomic, not unpickled.

The last two are kept. A file that cannot be trusted is put aside, and the one before it is used.

Any optimizer will do whose state of a weight is tensors and plain numbers. Tensors are kept as
``state/KEY/WEIGHT`` beside ``weight/WEIGHT`` and ``average/WEIGHT``; numbers, and those that an
optimizer keeps in its groups, are JSON in the file's header, which holds every float exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mytnano.errors import UserError
from mytnano.files import atomic_file
from mytnano.run_files import CHECKPOINT, CHECKPOINTS, PREVIOUS, REFUSED
from mytnano.training.engine import Engine

DIGEST = 32
PLAIN = (bool, int, float, str, type(None))
"""What of an optimizer's state may be written beside tensors."""


def save_checkpoint(
    folder: Path, engine: Engine, step: int, config_hash: str, history: dict
) -> None:
    """Write all that continuing after ``step`` steps needs: weights, moments, measured history.

    Raises:
        UserError: the disk is full, or the optimizer keeps what cannot be written; the last
            checkpoint is whole.
    """
    tensors = {f"weight/{name}": p for name, p in engine.masters.items()}
    tensors |= {f"average/{name}": p for name, p in (engine.average or {}).items()}
    numbers: dict[str, Any] = {}
    on_cpu = []
    for place, value, weight in optimizer_state(engine):
        if isinstance(value, Tensor):
            tensors[place] = value
            if value.device != weight.device:
                on_cpu.append(place)
        elif isinstance(value, PLAIN):
            numbers[place] = value
        else:
            raise UserError(
                f"{type(engine.optimizer).__name__} keeps a {type(value).__name__} in its state "
                f"('{place.split('/')[1]}'), which a checkpoint cannot hold: keep tensors and "
                "plain numbers"
            )
    groups = optimizer_groups(engine)
    note = {"step": str(step), "hash": config_hash, "history": json.dumps(history)}
    note |= {"numbers": json.dumps(numbers), "groups": json.dumps(groups)}
    note |= {"on_cpu": json.dumps(on_cpu), "updates": str(engine.updates)}
    data = save(
        {place: t.detach().cpu().contiguous() for place, t in tensors.items()}, metadata=note
    )
    with contextlib.suppress(FileNotFoundError):  # the first to be saved, or the last save failed
        os.replace(folder / CHECKPOINT, folder / PREVIOUS)
    with atomic_file(folder / CHECKPOINT) as temporary, open(temporary, "wb") as file:
        file.write(hashlib.sha256(data).digest())
        file.write(data)


def optimizer_state(engine: Engine) -> list[tuple[str, Any, Tensor]]:
    """``(state/KEY/WEIGHT, value, weight)`` of all that the optimizer keeps for its weights."""
    return [
        (f"state/{key}/{name}", value, weight)
        for name, weight in engine.masters.items()
        for key, value in engine.optimizer.state.get(weight, {}).items()
    ]


def optimizer_groups(engine: Engine) -> list[dict[str, Any]]:
    """What of each of the optimizer's groups is plain: rates, and what a user's counts there."""
    return [
        {key: value for key, value in group.items() if isinstance(value, PLAIN)}
        for group in engine.optimizer.param_groups
    ]


def restore_groups(engine: Engine, groups: list[dict[str, Any]]) -> None:
    """Put what :func:`optimizer_groups` gave into an engine; none changes nothing."""
    for group, saved in zip(engine.optimizer.param_groups, groups, strict=False):
        group.update(saved)


def load_checkpoint(
    folder: Path,
    engine: Engine,
    config_hash: str,
    say: Callable[[str], None] = lambda sentence: None,
) -> tuple[int, dict] | None:
    """Put the newest good state into ``engine``; return its step and history, or None.

    A file that is cut off, damaged or of another run is not used: it is put aside under
    :data:`~mytnano.run_files.REFUSED`, ``say`` is told why, and the one before it counts.
    """
    for name in CHECKPOINTS:
        try:
            tensors, header = read_checkpoint(folder / name, config_hash)
            _restore(engine, tensors, header)
        except FileNotFoundError:
            continue
        except Untrusted as error:
            os.replace(folder / name, folder / REFUSED)
            say(f"{folder / name} is not used: {error}; it is kept as {REFUSED}")
            continue
        return int(header["step"]), json.loads(header["history"])
    return None


class Untrusted(Exception):
    """Why a checkpoint is not used, in a few words."""


def read_checkpoint(path: Path, config_hash: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Its tensors by name, and its header with ``step``, ``hash`` and ``history``.

    Raises:
        FileNotFoundError: there is none.
        Untrusted: it is damaged, or of another run.
    """
    try:
        with open(path, "rb") as file:
            digest, data = file.read(DIGEST), file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Untrusted(f"it cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).digest() != digest:
        raise Untrusted("its checksum does not match, so it was cut off or damaged")
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if header["hash"] != config_hash:
            raise Untrusted(f"it belongs to another run ({header['hash']}, not {config_hash})")
    except (SafetensorError, KeyError, ValueError):
        raise Untrusted("it is no checkpoint of ours") from None
    return tensors, header


def _restore(engine: Engine, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    wanted = [f"weight/{name}" for name in engine.masters]
    wanted += [f"average/{name}" for name in engine.average or ()]
    if missing := [name for name in wanted if name not in tensors]:
        raise Untrusted(f"it lacks {missing[0]}")
    with torch.no_grad():
        for name, parameter in engine.masters.items():
            parameter.copy_(tensors.pop(f"weight/{name}"))
            if engine.average is not None:
                engine.average[name].copy_(tensors.pop(f"average/{name}"))
    _restore_optimizer(engine, tensors, header)
    if engine.low_precision:
        engine.refresh()
    engine.updates = int(header.get("updates", header["step"]))


def _restore_optimizer(engine: Engine, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    on_cpu = set(json.loads(header.get("on_cpu", "[]")))
    state: dict[str, dict[str, Any]] = {name: {} for name in engine.masters}
    for place, value in (tensors | json.loads(header.get("numbers", "{}"))).items():
        # Files of earlier versions have no prefix.
        key, _, name = place.removeprefix("state/").rpartition("/")
        if isinstance(value, Tensor) and place not in on_cpu:
            # All of them, as the fused optimizer counts its steps on the weight's device too.
            value = value.to(engine.masters[name].device)
        state[name][key] = value
    for name, weight in engine.masters.items():
        engine.optimizer.state[weight] = state[name]
    restore_groups(engine, json.loads(header.get("groups", "[]")))
