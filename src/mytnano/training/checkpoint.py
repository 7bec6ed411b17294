"""The state of an unfinished run in one safetensors file: checksummed, atomic, not unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from mytnano.files import atomic_write_bytes
from mytnano.training.engine import Engine

NAME = "checkpoint.bin"
DIGEST = 32


def save_checkpoint(
    folder: Path, engine: Engine, step: int, config_hash: str, history: dict
) -> None:
    """Write all that continuing after ``step`` steps needs: weights, moments, measured history.

    Raises:
        UserError: the disk is full.
    """
    tensors = {
        f"weight/{name}": p.detach().cpu().contiguous() for name, p in engine.masters.items()
    }
    for name, parameter in engine.masters.items():
        for key, value in engine.optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    note = {"step": str(step), "hash": config_hash, "history": json.dumps(history)}
    data = save(tensors, metadata=note)
    atomic_write_bytes(folder / NAME, hashlib.sha256(data).digest() + data)


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
            # All of them, as the fused optimizer counts its steps on the parameter's device too.
            engine.optimizer.state[parameter] = {
                key: tensors[f"{key}/{name}"].to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    if engine.low_precision:
        engine.refresh()
    return int(header["step"]), json.loads(header["history"])
