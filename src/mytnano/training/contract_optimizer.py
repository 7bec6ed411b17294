"""What a user's optimizer must keep to, tested on a model of one block before anything is trained.

Its steps must move every weight that has a gradient, at the rate that its groups say, the same way
each time, and all that it remembers must go through a checkpoint: else an interrupted run would
come out as another one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.errors import UserError, brief
from mytnano.model.init import stream_seed
from mytnano.model.own import references
from mytnano.training.checkpoint import load_checkpoint, save_checkpoint
from mytnano.training.engine import Engine
from mytnano.training.optimizers import lion

SEED, VOCABULARY, CONTEXT, SCALE = 7, 97, 16, 1e-2
STEPS, SAVED_AT = 4, 2
"""Steps of the test, and after which of them it is interrupted."""

Result = TypeVar("Result")


def check_optimizer(config: RunConfig) -> None:
    """Test all that an optimizer is asked for; of ours, only that its package is there.

    Args:
        config: resolved; its precision, device and learning rate are those of the test.

    Raises:
        UserError: the first part that is broken, in one sentence.
    """
    if config.optim.optimizer == "lion":
        lion()
    if not references(config.optim):
        return
    small = config.but(
        model={
            "layers": min(1, config.model.layers),
            "vocab_size": min(config.model.vocab_size, VOCABULARY),
            "context": min(config.model.context, CONTEXT),
            "dropout": 0.0,
        },
        train={"compile": False},
    )
    with torch.random.fork_rng(devices=[]):
        weights = _check_steps(small)
        _check_repeats(small, weights)
        _check_rate(small, weights)
        _check_resumes(small, weights)


def _check_steps(config: RunConfig) -> dict[str, Tensor]:
    """The weights after all steps, which must be numbers and have moved."""
    named = config.optim.optimizer
    engine = Engine(config)
    groups = engine.optimizer.param_groups
    kept = _guarded(named, "its groups", lambda: [id(p) for g in groups for p in g["params"]])
    if sorted(kept) != sorted(map(id, engine.masters.values())):
        raise UserError(
            f"{named} does not keep in param_groups each weight that it is given, once: pass the "
            "groups on to torch.optim.Optimizer"
        )
    start = _weights(engine)
    _steps(engine, range(STEPS))
    weights = _weights(engine)
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise UserError(f"{named} makes {name} something that is not a number")
        if torch.equal(weight, start[name]):
            raise UserError(f"{named} never moves {name}, which has a gradient")
    return weights


def _check_repeats(config: RunConfig, weights: dict[str, Tensor]) -> None:
    engine = Engine(config)
    _steps(engine, range(STEPS))
    if not _equal(_weights(engine), weights):
        raise UserError(
            f"{config.optim.optimizer} does not do the same for the same seed: draw numbers from "
            "PyTorch's own generator, and keep nothing outside of the object"
        )


def _check_rate(config: RunConfig, weights: dict[str, Tensor]) -> None:
    engine = Engine(config)
    _steps(engine, range(STEPS), factor=0.5)
    if _equal(_weights(engine), weights):
        raise UserError(
            f"{config.optim.optimizer} moves weights alike at another learning rate: read "
            "group['lr'] in every step, which the schedule sets"
        )


def _check_resumes(config: RunConfig, weights: dict[str, Tensor]) -> None:
    named = config.optim.optimizer
    before, after = Engine(config), Engine(config)
    _steps(before, range(SAVED_AT))
    with tempfile.TemporaryDirectory() as folder:
        _guarded(
            named,
            "a checkpoint",
            lambda: save_checkpoint(Path(folder), before, SAVED_AT, config.hash, {}),
        )
        load_checkpoint(Path(folder), after, config.hash)
    _steps(after, range(SAVED_AT, STEPS))
    if not _equal(_weights(after), weights):
        raise UserError(
            f"{named} goes on otherwise after a checkpoint: keep all that a step needs in "
            "self.state[weight], or as a number in its group"
        )


def _steps(engine: Engine, steps: range, factor: float = 1.0) -> None:
    """Make steps, each with random gradients of its own.

    Those of a batch would not do: on a GPU their last bits differ from one time to the next.
    """
    named = engine.config.optim.optimizer
    for step in steps:
        generator = torch.Generator().manual_seed(stream_seed(SEED, "gradients", step))
        for master in engine.masters.values():
            assert master.grad is not None
            master.grad.copy_(SCALE * torch.randn(master.shape, generator=generator))
        torch.manual_seed(stream_seed(SEED, step))
        _guarded(named, "its step", lambda: engine.update(factor * engine.config.optim.lr))


def _guarded(named: str, where: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except UserError as error:
        raise UserError(f"{named}: {error}") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{named} fails in {where}: {brief(error)}") from None


def _weights(engine: Engine) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in engine.masters.items()}


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], weight) for name, weight in other.items())
