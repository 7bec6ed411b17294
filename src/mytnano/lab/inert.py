"""Changes that change nothing, such as the base of rotary frequencies where nothing is rotated.

They would be trained at full cost, to end as ``identical``. No table of settings is kept: the two
designs are built and compared, so that a setting added later is covered. An arm that names a
module of one's own is not looked at, as one may well want to know whether it is the same; nor is
the choice between attention kernels, which are the same function on purpose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mytnano.config import ModelConfig, RunConfig, is_own
from mytnano.lab.settings import differences
from mytnano.model.own import references
from mytnano.training.contract import SEED, VOCABULARY, fresh, roughened
from mytnano.training.engine import Engine
from mytnano.training.schedule import learning_rate

WINDOWS = 2
STEPS = 8
"""Optimizer steps after which two designs that agree to the last bit are called the same."""


SEEN = {
    "optimizer", "beta1", "beta2", "momentum", "eps", "weight_decay", "table_lr", "schedule",
    "warmup", "final_lr", "decay",
}  # fmt: skip
"""Settings of the optimizer whose whole effect shows in a few steps. Others are taken to act: they
wait for a large gradient or a spike, or change what is scored and not what is trained."""


def changes_nothing(one: RunConfig, other: RunConfig) -> bool:
    """Whether two resolved designs of one text start and train alike, to the last bit.

    False wherever that cannot be told without training.
    """
    own = [*references(one.model), *references(other.model)]
    if one.data != other.data or own or any(is_own(run.optim.optimizer) for run in (one, other)):
        return False
    if not {name.partition(".")[2] for name in _optimizers(one, other)} <= SEEN:
        return False
    with torch.random.fork_rng(devices=[]):
        if not _same_model(_small(one.model), _small(other.model)):
            return False
        return _same_training(one, other)


def _optimizers(one: RunConfig, other: RunConfig) -> list[str]:
    return [name for name in differences(one, other) if name.startswith("optim.")]


def _small(model: ModelConfig) -> ModelConfig:
    return model.but(vocab_size=min(model.vocab_size, VOCABULARY))


def _ids(model: ModelConfig) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(0, model.vocab_size, (WINDOWS, model.context), generator=generator)


def _same_model(one: ModelConfig, other: ModelConfig) -> bool:
    if one == other:
        return True
    if one.kernel != other.kernel and one.layers and one.mixer == "attention":
        return False
    models = [fresh(config, SEED) for config in (one, other)]
    first, second = (dict(model.named_parameters()) for model in models)
    if list(first) != list(second):
        return False
    if not all(torch.equal(first[name], second[name]) for name in first):
        return False
    # Behind matrices that start at zero, differences would not show.
    models = [roughened(model) for model in models]
    return all(
        torch.equal(*(_states(model, one, training) for model in models))
        for training in (False, True)
    )


@torch.no_grad()
def _states(model: torch.nn.Module, config: ModelConfig, training: bool) -> Tensor:
    model.train(training)
    torch.manual_seed(SEED)  # for dropout
    return model(_ids(config))  # (B, T, D)


def _same_training(one: RunConfig, other: RunConfig) -> bool:
    """The same rate at every step of the run, and the same weights after a few steps.

    What acts on logits or gradients only is not in the states, so this is asked of models too.
    """
    rates = [
        [learning_rate(run.optim, step, run.steps) for step in range(run.steps)]
        for run in (one, other)
    ]
    if rates[0] != rates[1]:
        return False
    first, second = (_trained(run, rates[0][:STEPS]) for run in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def _trained(run: RunConfig, rates: list[float]) -> dict[str, Tensor]:
    """Weights after a few steps on random ids."""
    plain = {"precision": "fp32", "device": "cpu", "compile": False}
    engine = Engine(run.but(model=_small(run.model).model_dump(), train=plain))
    roughened(engine.model)
    ids = _ids(_small(run.model))  # (B, T)
    torch.manual_seed(SEED)
    for rate in rates:
        engine.gradients(ids, ids.roll(-1, 1))
        engine.update(rate)
    return engine.masters
