"""What a user's module must keep to, tested in a model of one block before anything is trained.

A module that looks ahead wins every ablation, and so does one that mixes the windows of a batch:
both see what they are asked to predict. The test model has the real window, weights that are all
far from zero, so that nothing hides behind a small gain, and double precision where the module
allows it, so that a small leak is not taken for rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mytnano.config import ModelConfig, RunConfig
from mytnano.errors import UserError, brief
from mytnano.measure.flops import forward_flops_per_token
from mytnano.model.init import initialise, stream_seed
from mytnano.model.own import own_modules, references
from mytnano.model.transformer import Transformer
from mytnano.training.contract_optimizer import check_optimizer
from mytnano.training.engine import Engine

WINDOWS, SEED, VOCABULARY = 3, 7, 97
NOISE = 0.5
"""Standard deviation of what is added to every weight of the test model."""
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest relative change of a state that rounding may make."""
PLACES = 12
"""Positions from which on the tokens are changed, to see whether earlier states do."""


class _Subject:
    """The test model, its input, and one way to run it.

    ``seed`` is set before every pass, so that a module that draws numbers draws the same.
    """

    def __init__(self, config: ModelConfig, named: str) -> None:
        self.config, self.named = config, named
        generator = torch.Generator().manual_seed(SEED)
        shape = (WINDOWS, config.context)
        self.ids = torch.randint(0, config.vocab_size, shape, generator=generator)  # (B, T)
        self.model = roughened(fresh(config, SEED)).double()
        try:
            self.model(self.ids)
        except Exception:  # a constant in fp32 inside: then fp32 must do
            self.model = self.model.float()
        self.dtype = next(self.model.parameters()).dtype

    @torch.no_grad()
    def states(self, ids: Tensor, training: bool = False) -> Tensor:
        """(B, T) -> (B, T, D)."""
        self.model.train(training)
        torch.manual_seed(SEED)
        try:
            return self.model(ids)
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self.named} fails on windows of shape {tuple(ids.shape)}: {brief(error)}"
            ) from None

    def differ(self, one: Tensor, other: Tensor) -> bool:
        return bool((one - other).abs().max() > CLOSE[self.dtype] * (1 + other.abs().max()))


def check_own(config: RunConfig) -> None:
    """Test the modules and the optimizer of the user's that a resolved config names, if any.

    Raises:
        UserError: the first part of their contracts that is broken, in one sentence.
    """
    if references(config.model):
        check_contract(config)
    check_optimizer(config)


def check_contract(config: RunConfig) -> None:
    """Test all that a user's module is asked for.

    Args:
        config: resolved; its precision and device are tried as well.

    Raises:
        UserError: the first part that is broken, in one sentence.
    """
    named = ", ".join(references(config.model))
    small = config.model.but(
        layers=min(1, config.model.layers), vocab_size=min(config.model.vocab_size, VOCABULARY)
    )
    with torch.random.fork_rng(devices=[]):
        _check_weights(small, named)
        subject = _Subject(small, named)
        _check_shapes(subject)
        _check_causal(subject)
        _check_windows(subject)
        _check_buffers(subject)
        _check_step(config.but(model=small.model_dump(), train={"compile": False}), named)


def fresh(config: ModelConfig, seed: int) -> Transformer:
    """The test model as a run would start it."""
    model = Transformer(config)
    initialise(model, seed)
    return model


def roughened(model: Transformer) -> Transformer:
    """Noise on every weight: no matrix of zeros, no gain through which next to nothing passes."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += NOISE * torch.randn(parameter.shape, generator=generator)
    return model


def _check_weights(config: ModelConfig, named: str) -> None:
    one, same = fresh(config, SEED), fresh(config, SEED)
    for place, module in own_modules(one):
        frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
        if frozen:
            raise UserError(
                f"{named}: {frozen[0]} is a weight that is not trained: make it a buffer"
            )
        key = stream_seed(SEED, place)
        torch.manual_seed(key)
        module.remade()
        if torch.initial_seed() != key:
            raise UserError(
                f"{named} seeds PyTorch's generator itself, so every seed would start the same: "
                "leave that out"
            )
    pairs = zip(_tensors(one), _tensors(same), strict=True)
    for (name, tensor), (_, other) in pairs:
        if not torch.equal(tensor, other):
            raise UserError(
                f"{named}: {name} does not start the same for the same seed: draw initial "
                "values from PyTorch's own generator, in __init__"
            )


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _check_shapes(subject: _Subject) -> None:
    """Every module of the user's must return the shape that it was given."""
    wrong: list[tuple] = []

    def look(module: nn.Module, inputs: tuple, output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape != tuple(inputs[0].shape):
            wrong.append((shape, tuple(inputs[0].shape)))

    hooks = [module.register_forward_hook(look) for _, module in own_modules(subject.model)]
    try:
        states = subject.states(subject.ids)
    except UserError:
        if not wrong:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    if wrong:
        raise UserError(
            f"{subject.named} makes {wrong[0][0]} of {wrong[0][1]}: return the shape of the input"
        )
    if not torch.isfinite(states).all():
        raise UserError(f"{subject.named} gives values that are not numbers")


def _check_causal(subject: _Subject) -> None:
    T = subject.config.context
    for training in (False, True):
        states = subject.states(subject.ids, training)
        for t in sorted({1, T - 1, *torch.linspace(1, T - 1, PLACES).long().tolist()} - {0}):
            other = subject.ids.clone()
            other[:, t:] = (other[:, t:] + 1) % subject.config.vocab_size
            if subject.differ(subject.states(other, training)[:, :t], states[:, :t]):
                raise UserError(
                    f"{subject.named} leaks the future: states before position {t} change with "
                    "the tokens from there on, so it would see what it must predict"
                )
    # A shorter window must give the same states: statistics over positions would not.
    short, states = max(1, T // 2), subject.states(subject.ids)
    if subject.differ(subject.states(subject.ids[:, :short]), states[:, :short]):
        raise UserError(
            f"{subject.named} gives other states in a shorter window, so it depends on its length"
        )


def _check_windows(subject: _Subject) -> None:
    other = subject.ids.clone()
    other[1:] = (other[1:] + 1) % subject.config.vocab_size
    for training in (False, True):
        states = subject.states(subject.ids, training)
        if subject.differ(subject.states(other, training)[:1], states[:1]):
            raise UserError(
                f"{subject.named} mixes the windows of a batch: a window's states change with its "
                "neighbours"
            )


def _check_buffers(subject: _Subject) -> None:
    before = {name: buffer.clone() for name, buffer in subject.model.named_buffers()}
    subject.states(subject.ids, training=True)
    for name, buffer in subject.model.named_buffers():
        if not torch.equal(buffer, before[name]):
            raise UserError(
                f"{subject.named}: {name} changes while the module trains, which checkpoints do "
                "not keep: make it a parameter, or do without"
            )


def _check_step(config: RunConfig, named: str) -> None:
    """One step in the run's own precision and on its device, and the count of operations."""
    try:
        forward_flops_per_token(config.model)
        engine = Engine(config)
        roughened(engine.model)
        ids = torch.zeros(WINDOWS, config.model.context, dtype=torch.long)  # (B, T)
        ids = ids.to(config.train.device)
        engine.model.train()
        engine.gradients(ids, ids)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{named} cannot be trained in {config.train.precision} on {config.train.device}: "
            f"{brief(error)}"
        ) from None
    for name, master in engine.masters.items():
        if not torch.isfinite(master.grad).all():
            raise UserError(f"{named}: the gradient of {name} is not a number")
    own = {f"{place}.{name}" for place, module in own_modules(engine.model)
           for name, _ in module.named_parameters()}  # fmt: skip
    for name in sorted(own):
        if not engine.masters[name].grad.any():
            raise UserError(f"{named}: {name} takes no part in the result: remove or use it")
