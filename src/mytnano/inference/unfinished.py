"""What an unfinished run of ``mytnano train`` has learned so far, from its newest checkpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pydantic
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.files import MANIFEST
from mytnano.inference.load import LoadedRun, find_run, model_of
from mytnano.kept import read_kept
from mytnano.model.own import check_unchanged
from mytnano.run_files import CACHE, CHECKPOINT, CHECKPOINTS, PLAN
from mytnano.training.checkpoint import Untrusted, read_checkpoint
from mytnano.training.text import prepare

KINDS = ("average/", "weight/")
"""Prefixes of weights in a checkpoint: what a run would be scored with comes first."""


def load_unfinished(path: Path, device: str | None = None) -> tuple[LoadedRun, int] | None:
    """A run at the newest of its steps that can be read, and how many steps that is.

    Args:
        path, device: as of :func:`~mytnano.inference.load.load_run`.

    Returns:
        None if the run is finished, or has no plan or no checkpoint of this version.

    Raises:
        UserError: there is no run, its text cannot be read, or a module of the user's that it is
            made with has changed.
    """
    folder = find_run(path)
    plan = None if (folder / MANIFEST).exists() else read_kept(folder / PLAN)
    state = plan and newest_state(folder, plan)
    if not state:
        return None
    config, tensors, step = state
    check_unchanged(config.model)
    kind = next(kind for kind in KINDS if any(name.startswith(kind) for name in tensors))
    weights = {n.removeprefix(kind): each for n, each in tensors.items() if n.startswith(kind)}
    model = model_of(config, weights, folder / CHECKPOINT).to(device or "cpu")
    tokenizer = prepare(config.data, folder / CACHE).tokenizer
    return LoadedRun(folder, config, {}, model, tokenizer, config.hash), step


def newest_state(
    folder: Path, plan: dict[str, Any]
) -> tuple[RunConfig, dict[str, Tensor], int] | None:
    """The configuration of a plan, and tensors and step of its newest good checkpoint."""
    with contextlib.suppress(KeyError, pydantic.ValidationError):  # a plan of another version
        config = RunConfig.model_validate(plan["config"])
        for name in CHECKPOINTS:
            with contextlib.suppress(FileNotFoundError, Untrusted):
                tensors, header = read_checkpoint(folder / name, config.hash)
                return config, tensors, int(header["step"])
    return None
