"""What a user's module must keep to, tested on a small model before anything is trained.

A module that looks ahead wins every ablation, and so does one that mixes the windows of a batch:
both see what they are asked to predict.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mytnano.config import ModelConfig
from mytnano.errors import UserError
from mytnano.model.init import initialise
from mytnano.model.own import references
from mytnano.model.transformer import Transformer

WINDOWS, SEED = 3, 7
CLOSE = 1e-4
"""Largest relative change of a state that rounding may make."""


def check_contract(config: ModelConfig) -> None:
    """Test shape, causality, independence of windows, initial weights and gradients.

    Args:
        config: resolved. The test model has one block of it.

    Raises:
        UserError: the first part that is broken, in one sentence.
    """
    named = ", ".join(references(config))
    small = config.but(layers=min(1, config.layers), vocab_size=min(config.vocab_size, 97))
    small = small.but(context=min(config.context, 24))
    model = _model(small, SEED)
    generator = torch.Generator().manual_seed(SEED)
    shape = (WINDOWS, small.context)
    ids = torch.randint(0, small.vocab_size, shape, generator=generator)  # (B, T)
    states = _states(model, ids, named)  # (B, T, D)
    if states.shape != (*shape, small.width):
        raise UserError(
            f"{named} makes states of shape {tuple(states.shape)} where "
            f"{(*shape, small.width)} is needed: return the shape of the input"
        )
    if not torch.isfinite(states).all():
        raise UserError(f"{named} gives values that are not numbers on its initial weights")
    _check_causal(model, ids, states, named)
    _check_windows(model, ids, states, named)
    _check_initial_weights(small, model, named)
    _check_gradients(model, ids, named)


def _model(config: ModelConfig, seed: int) -> Transformer:
    model = Transformer(config)
    initialise(model, seed)
    return _roughened(model).eval()


def _roughened(model: Transformer) -> Transformer:
    """Without matrices of zeros, through which nothing would be seen."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@torch.no_grad()
def _states(model: Transformer, ids: Tensor, named: str) -> Tensor:
    try:
        return model(ids)  # (B, T, D)
    except Exception as error:
        raise UserError(
            f"{named} fails on windows of shape {tuple(ids.shape)}: {type(error).__name__}: {error}"
        ) from None


def _check_causal(model: Transformer, ids: Tensor, states: Tensor, named: str) -> None:
    T = ids.shape[1]
    for t in {1, T // 3, T // 2, T - 1} - {0}:
        other = ids.clone()
        other[:, t:] = (other[:, t:] + 1) % model.config.vocab_size
        if _differ(_states(model, other, named)[:, :t], states[:, :t]):
            raise UserError(
                f"{named} leaks the future: states before position {t} change with the tokens "
                "from there on, so it would see what it must predict"
            )
    # A shorter window must give the same states: statistics over positions would not.
    if _differ(_states(model, ids[:, : T // 2], named), states[:, : T // 2]):
        raise UserError(
            f"{named} gives other states in a shorter window, so it depends on its length"
        )


def _check_windows(model: Transformer, ids: Tensor, states: Tensor, named: str) -> None:
    if _differ(_states(model, ids[:1], named), states[:1]):
        raise UserError(
            f"{named} mixes the windows of a batch: a window's states change with its neighbours"
        )


def _check_initial_weights(config: ModelConfig, model: Transformer, named: str) -> None:
    same, other = (dict(_model(config, seed).named_parameters()) for seed in (SEED, SEED + 1))
    for name, parameter in model.named_parameters():
        if not torch.equal(parameter, same[name]):
            raise UserError(
                f"{named}: {name} does not start the same for the same seed: draw initial "
                "weights from PyTorch's own generator, in __init__"
            )
    if all(torch.equal(parameter, other[name]) for name, parameter in model.named_parameters()):
        raise UserError(f"{named}: all weights start the same whatever the seed")


def _check_gradients(model: Transformer, ids: Tensor, named: str) -> None:
    model(ids).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("head"):
            continue
        if parameter.requires_grad and parameter.grad is None:
            raise UserError(f"{named}: {name} takes no part in the result: remove or use it")
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise UserError(f"{named}: the gradient of {name} is not a number")


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > CLOSE * (1 + other.abs().max()))
