"""A user's own module in the place of one of ours: ``ffn: ./mine.py:MyFFN``.

============== =========================== ======================================================
setting        is called as                must return
============== =========================== ======================================================
``ffn``        ``MyFFN(config)(x)``        (B, T, D), each position on its own
``mixer``      ``MyMixer(config)(x)``      (B, T, D), position t from positions up to t
``norm``       ``MyNorm(width)(x)``        (B, T, D), each position on its own
``positions``  ``MyPositions(config)(x)``  (B, T, D), the embedded tokens with positions in them
============== =========================== ======================================================

An optimizer of one's own is in :mod:`mytnano.training.optimizers`.

``config`` is the :class:`~mytnano.config.ModelConfig`, x is (B, T, D). Initial weights are those
that the module's ``__init__`` draws from PyTorch's generator, which is seeded for each place in the
model, so that runs repeat and pair as with our own modules. A design of ``init: zero-out`` also
zeroes the weights that the class names in ``into_the_stream = ("down.weight",)``, as it does ours.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mytnano.config import ModelConfig, OptimConfig, RunConfig, is_own
from mytnano.errors import UserError, brief

SETTINGS = ("ffn", "mixer", "norm", "positions")
"""Settings of a model that may name a module of one's own."""


class OwnMixer(nn.Module):
    """A user's mixer where ours is called with tables that it does not need."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.own = module

    def forward(self, x: Tensor, tables: object) -> Tensor:
        return self.own(x)  # (B, T, D)


def build_own(reference: str, argument: ModelConfig | int) -> nn.Module:
    """The module that ``FILE.py:CLASS`` names, made with ``argument``.

    Raises:
        UserError: no such file or class, or it cannot be made.
    """
    make = load_class(reference)
    try:
        module = make(argument)
    except (Exception, SystemExit) as error:
        kind = "the width" if isinstance(argument, int) else "the model's config"
        raise UserError(f"{reference} cannot be made from {kind}: {brief(error)}") from None
    if not isinstance(module, nn.Module):
        raise UserError(f"{reference} makes no torch.nn.Module, but a {type(module).__name__}")
    module.remade = functools.partial(make, argument)  # type: ignore[assignment]
    return module


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every user's module in a model; ``module.remade()`` makes it anew."""
    return ((name, m) for name, m in model.named_modules() if "remade" in m.__dict__)


def load_class(reference: str) -> Any:
    """The class that ``FILE.py:CLASS`` names, relative to the working folder.

    Raises:
        UserError: no such file or class, or the file cannot be run.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"'{file}' is not a file: give FILE.py:CLASS, relative to this folder")
    module = _run(path.resolve(), code_hash([reference]))
    if not isinstance(getattr(module, name, None), type):
        raise UserError(f"{file} has no class {name}")
    return getattr(module, name)


@functools.lru_cache(maxsize=32)
def _run(path: Path, digest: str) -> Any:
    """The file as a module, run once for each content."""
    name = f"mytnano_own_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path.name} cannot be run: {brief(error)}") from None
    return module


def references(config: ModelConfig | OptimConfig) -> list[str]:
    """The users' classes that a model, or the optimizer's settings, name."""
    if isinstance(config, OptimConfig):
        return [config.optimizer] if is_own(config.optimizer) else []
    return [getattr(config, name) for name in SETTINGS if is_own(getattr(config, name))]


def code_hash(named: list[str]) -> str:
    """SHA-256 over the files of some ``FILE.py:CLASS``, in hex; empty for none.

    Raises:
        UserError: a file is missing.
    """
    if not named:
        return ""
    digest = hashlib.sha256()
    for reference in named:
        path = Path(reference.rpartition(":")[0])
        try:
            digest.update(path.read_bytes())
        except OSError:
            raise UserError(
                f"'{path}' is not a file: give FILE.py:CLASS, relative to this folder"
            ) from None
    return digest.hexdigest()


def with_own_code(config: RunConfig) -> RunConfig:
    """The config with the hash of the users' files, if it names any, in its ``own_code`` fields.

    Raises:
        UserError: a file is missing.
    """
    if not (references(config.model) or references(config.optim)):
        return config
    return config.but(
        model={"own_code": code_hash(references(config.model))},
        optim={"own_code": code_hash(references(config.optim))},
    )


def check_unchanged(config: ModelConfig | OptimConfig) -> None:
    """Raise UserError if the users' files are not those that the run was planned with."""
    if config.own_code and code_hash(references(config)) != config.own_code:
        raise UserError(
            f"{', '.join(references(config))} has changed since this run was planned: "
            "start again in a new --out folder"
        )
