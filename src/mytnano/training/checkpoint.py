"""The state of an unfinished run in one safetensors file: checksummed, atomic, not unpickled.

The last two are kept. A file that cannot be trusted is put aside, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mytnano.files import atomic_file
from mytnano.training.engine import Engine

NAME = "checkpoint.bin"
PREVIOUS = "checkpoint-previous.bin"
REFUSED = "checkpoint-refused.bin"
FILES = (NAME, PREVIOUS, REFUSED)
"""The newest, the one before it, and the last one that was not trusted."""

DIGEST = 32


def save_checkpoint(
    folder: Path, engine: Engine, step: int, config_hash: str, history: dict
) -> None:
    """Write all that continuing after ``step`` steps needs: weights, moments, measured history.

    Raises:
        UserError: the disk is full; the last checkpoint is whole.
    """
    tensors = {
        f"weight/{name}": p.detach().cpu().contiguous() for name, p in engine.masters.items()
    }
    for name, parameter in engine.masters.items():
        for key, value in engine.optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    note = {"step": str(step), "hash": config_hash, "history": json.dumps(history)}
    data = save(tensors, metadata=note)
    with contextlib.suppress(FileNotFoundError):  # the first to be saved, or the last save failed
        os.replace(folder / NAME, folder / PREVIOUS)
    with atomic_file(folder / NAME) as temporary, open(temporary, "wb") as file:
        file.write(hashlib.sha256(data).digest())
        file.write(data)


def load_checkpoint(
    folder: Path,
    engine: Engine,
    config_hash: str,
    say: Callable[[str], None] = lambda sentence: None,
) -> tuple[int, dict] | None:
    """Put the newest good state into ``engine``; return its step and history, or None.

    A file that is cut off, damaged or of another run is not used: it is put aside under
    :data:`REFUSED`, ``say`` is told why, and the one before it counts.
    """
    for name in (NAME, PREVIOUS):
        try:
            tensors, header = read_checkpoint(folder / name, config_hash)
            _restore(engine, tensors)
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
        blob = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Untrusted(f"it cannot be read ({error.strerror})") from None
    digest, data = blob[:DIGEST], blob[DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        raise Untrusted("its checksum does not match, so it was cut off or damaged")
    try:
        tensors = load(bytes(data))
        header = json.loads(bytes(data[8 : 8 + int.from_bytes(data[:8], "little")]))["__metadata__"]
        if header["hash"] != config_hash:
            raise Untrusted(f"it belongs to another run ({header['hash']}, not {config_hash})")
    except (SafetensorError, KeyError, ValueError):
        raise Untrusted("it is no checkpoint of ours") from None
    return tensors, header


def _restore(engine: Engine, tensors: dict[str, Tensor]) -> None:
    if missing := [name for name in engine.masters if f"weight/{name}" not in tensors]:
        raise Untrusted(f"it lacks {missing[0]}")
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
