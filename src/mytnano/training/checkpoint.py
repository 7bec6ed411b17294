"""The state of an unfinished run in one safetensors file: checksummed, atomic, not unpickled.

Any optimizer will do whose state of a weight is tensors and plain numbers. Tensors are kept as
``state/KEY/WEIGHT`` beside ``weight/WEIGHT`` and ``average/WEIGHT``; numbers, and those that an
optimizer keeps in its groups, are JSON in the file's header, which holds every float exactly.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes
from mytnano.training.engine import Engine

NAME = "checkpoint.bin"
DIGEST = 32
PLAIN = (bool, int, float, str, type(None))
"""What of an optimizer's state may be written beside tensors."""


def save_checkpoint(
    folder: Path, engine: Engine, step: int, config_hash: str, history: dict
) -> None:
    """Write all that continuing after ``step`` steps needs: weights, moments, measured history.

    Raises:
        UserError: the disk is full, or the optimizer keeps what cannot be written.
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
    groups = [
        {key: value for key, value in group.items() if isinstance(value, PLAIN)}
        for group in engine.optimizer.param_groups
    ]
    note = {"step": str(step), "hash": config_hash, "history": json.dumps(history)}
    note |= {"numbers": json.dumps(numbers), "groups": json.dumps(groups)}
    note |= {"on_cpu": json.dumps(on_cpu)}
    data = save(
        {place: t.detach().cpu().contiguous() for place, t in tensors.items()}, metadata=note
    )
    atomic_write_bytes(folder / NAME, hashlib.sha256(data).digest() + data)


def optimizer_state(engine: Engine) -> list[tuple[str, Any, Tensor]]:
    """``(state/KEY/WEIGHT, value, weight)`` of all that the optimizer keeps for its weights."""
    return [
        (f"state/{key}/{name}", value, weight)
        for name, weight in engine.masters.items()
        for key, value in engine.optimizer.state.get(weight, {}).items()
    ]


def load_checkpoint(folder: Path, engine: Engine, config_hash: str) -> tuple[int, dict] | None:
    """Put a saved state into ``engine``; return its step and history, or None if there is none.

    A truncated or foreign file is not used: the run starts again from its first step.
    """
    path = folder / NAME
    if not path.exists():
        return None
    blob = path.read_bytes()
    digest, data = blob[:DIGEST], blob[DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return None
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    except (SafetensorError, KeyError, ValueError):
        return None
    if header["hash"] != config_hash:
        return None
    with torch.no_grad():
        for name, parameter in engine.masters.items():
            parameter.copy_(tensors.pop(f"weight/{name}"))
            if engine.average is not None:
                engine.average[name].copy_(tensors.pop(f"average/{name}"))
    _restore_optimizer(engine, tensors, header)
    if engine.low_precision:
        engine.refresh()
    engine.updates = int(header["step"])
    return engine.updates, json.loads(header["history"])


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
    groups = json.loads(header.get("groups", "[]"))
    for group, saved in zip(engine.optimizer.param_groups, groups, strict=False):
        group.update(saved)
