"""A fleet: seeds and learning rates of one shape, trained as one program.

A small model leaves a GPU idle between its many small kernels. K models of one shape need the same
number of kernels as one, each K times as large (Wang et al. 2021, HFTA; Whitney 2021). The models
are ordinary ones: their code is untouched, their weights are rows of one tensor, and each member
gives the training loop what an :class:`~mytnano.training.engine.Engine` gives it.

Every member has its own seed, data order, rate, decay, clipping and end. A batched product may add
in another order than a single one, so a member's numbers equal those of a run alone to rounding,
not bit for bit; ``train.fleet`` is part of a run's hash, so the two are never taken for each other.

Shapes: K members, B windows, T tokens, D width, P numbers of one member's row.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.model.init import initialise
from mytnano.model.own import references
from mytnano.model.transformer import Transformer
from mytnano.training import engine as engines
from mytnano.training.fleet_program import Numbers, Program, adamw_, head_gradients
from mytnano.training.transfer import moved

EACH_ITS_OWN = {
    "optim": {"lr", "weight_decay", "grad_clip", "schedule", "warmup", "final_lr", "decay"},
    "train": {
        "seed", "salt", "train_bytes", "evaluations", "curve_bytes", "validation_bytes",
        "score_test", "test_bytes",
    },
}  # fmt: skip
"""Settings in which members of one fleet may differ."""

CARRIED_OUT = {
    "data": {
        "corpus", "split", "test_file", "fingerprint", "tokenizer", "tokenizer_bytes",
        "window_bytes",
    },
    "model": {
        "vocab_size", "context", "width", "layers", "mixer", "heads", "kv_heads", "kernel",
        "positions", "rope_base", "ffn", "ffn_width", "residual", "norm", "norm_place", "tied",
        "init", "qk_norm", "value_embeddings", "norm_gain", "embedding_norm", "x0_skip", "softcap",
    },
    "optim": {"table_lr", "beta1", "beta2", "eps", *EACH_ITS_OWN["optim"]},
    "train": {
        "batch_windows", "micro_windows", "precision", "compile", "device", "fleet",
        *EACH_ITS_OWN["train"],
    },
}  # fmt: skip
"""Settings that a fleet follows. Another one, not at its default, needs a run of its own."""


def signature(config: RunConfig) -> str:
    """What members of one fleet have in common, as text."""
    values = config.model_dump()
    for section, names in EACH_ITS_OWN.items():
        for name in names:
            del values[section][name]
    return json.dumps(values, sort_keys=True)


def why_alone(config: RunConfig) -> str:
    """Why a run cannot be a member of a fleet, in a few words; empty if it can."""
    if own := references(config.model) + references(config.optim):
        return f"it has code of its own ({', '.join(own)})"
    if config.optim.optimizer != "adamw":
        return f"a fleet has no {config.optim.optimizer}"
    default = RunConfig().model_dump()
    for section, known in CARRIED_OUT.items():
        for name, value in config.model_dump()[section].items():
            if name not in known and value != default[section][name]:
                return f"{section}.{name} is {value}, which a fleet does not carry out"
    return ""


class Fleet:
    """K models, their master weights and their optimizer, in lockstep.

    In each round the caller has the gradients of all members computed, then every member that still
    trains takes its loss and asks for its update, and :meth:`settle` carries the updates out.

    Args:
        configs: of equal :func:`signature`.
        compile: whether to use torch.compile; None on a GPU, or if the config says so.
        mode: of torch.compile.

    Raises:
        ValueError: the configs cannot be one fleet.
    """

    def __init__(
        self, configs: Sequence[RunConfig], compile: bool | None = None, mode: str | None = None
    ) -> None:
        config = configs[0]
        if len({signature(each) for each in configs}) > 1:
            raise ValueError("members of a fleet must have one shape")
        if reason := why_alone(config):
            raise ValueError(f"this run cannot be in a fleet: {reason}")
        self.low_precision = config.train.precision == "bf16"
        self.device, self.size = torch.device(config.train.device), len(configs)
        if compile is None:
            compile = config.train.compile or self.device.type == "cuda"
        self.program = program_for(config, self.size, compile, mode)
        self.optim, self.layout = config.optim, self.program.layout
        self.softcap, self.micro_windows = config.model.softcap, config.train.micro_windows
        shape = self.size, self.layout.width
        # Four tensors, not one: autograd counts the changes of a tensor and all its views together.
        self.master, self.grad, self.first, self.second = (
            torch.zeros(shape, device=self.device) for _ in range(4)
        )  # (K, P) each
        self.work = self.master  # (K, P), what the models compute with
        if self.low_precision:
            self.work = torch.zeros(shape, dtype=torch.bfloat16, device=self.device)
        self.counts = [0] * self.size
        self.members = [Member(self, k, each) for k, each in enumerate(configs)]
        self.shares = self.layout.shares(config.optim.table_lr, self.device)  # (2, P)
        self.weights = {
            name: self.layout.stacked(self.work, name).detach().requires_grad_()
            for name in self.program.names
        }  # (K, ...) each
        self.grads = {name: self.layout.stacked(self.grad, name) for name in self.layout.places}
        self.alive = torch.ones(self.size, dtype=torch.bool, device=self.device)  # (K,)
        self.losses = self.norms = torch.zeros(self.size, device=self.device)  # (K,) each
        self._rates: list[float | None] = [None] * self.size
        numbers = torch.arange(self.size, device=self.device)  # (K,)
        self.lookups = [self.layout.lines(n, numbers, self.work) for n in self.layout.lookups]
        self.lookup_grads = [
            self.layout.lines(n, numbers, self.grad)[0] for n in self.layout.lookups
        ]  # (lines, W) each
        if not self.program.proven:
            self._prove(config)

    def compute(self, x: Tensor, y: Tensor) -> None:
        """Leave every member's gradient, loss and gradient norm.

        A member whose loss is not a number is not updated any more, and its loss stays NaN.

        Args:
            x, y: (K, B, T) ids, each member's own.
        """
        self.grad.zero_()
        losses = torch.zeros(self.size, device=self.device)  # (K,)
        head = self.layout.head
        weight = self.layout.stacked(self.work, head).detach()  # (K, V, D)
        for ids, targets in zip(*(self._micro_batches(each) for each in (x, y)), strict=True):
            lines = [ids + first[:, None, None] for _, first in self.lookups]  # (K, b, T) each
            rows = tuple(
                F.embedding(line, table).requires_grad_()
                for line, (table, _) in zip(lines, self.lookups, strict=True)
            )  # (K, b, T, W) each
            states = self.program.encode(self.weights, rows)  # (K, b, T, D)
            part, grad_states = head_gradients(
                states.detach().flatten(1, 2), weight, targets.flatten(1), 1 / y[0].numel(),
                self.grads[head], self.softcap,
            )  # fmt: skip
            grads = torch.autograd.grad(
                states, [*rows, *self.weights.values()], grad_states.view_as(states)
            )
            for line, table, grad in zip(lines, self.lookup_grads, grads, strict=False):
                table.index_add_(0, line.flatten(), grad.flatten(0, 2).float())
            if self.weights:
                added = [self.grads[name] for name in self.weights]
                torch._foreach_add_(added, grads[len(rows) :])
            losses += part
        self.alive = self.alive & losses.isfinite()
        norms = torch.linalg.vector_norm(self.grad, dim=1)  # (K,)
        self.losses, self.norms = (
            torch.where(self.alive, each, math.nan) for each in (losses, norms)
        )

    def ask(self, k: int, lr: float) -> None:
        """Have a member updated at a rate, now or when :meth:`settle` comes."""
        self._rates[k] = lr

    @torch.no_grad()
    def settle(self, only: int | None = None) -> None:
        """Carry out the updates that were asked for: all of them, or one member's."""
        asked = [rate if only in (None, k) else None for k, rate in enumerate(self._rates)]
        if not any(rate is not None for rate in asked):
            return
        members = slice(only, None if only is None else only + 1)
        numbers = [self._numbers(k, rate) for k, rate in list(enumerate(asked))[members]]
        numbers = moved(torch.tensor(numbers), self.device)  # (K, 6)
        asking = numbers[:, -1:] > 0  # (K, 1)
        # One member is rare, and another shape, which is not worth another compilation.
        step = self.program.adamw_ if only is None else adamw_
        step(
            (self.master[members], self.first[members], self.second[members]),
            self.grad[members],
            self.norms[members, None],
            numbers.t()[:-1, :, None].contiguous(),
            asking & self.alive[members, None],
            self.shares,
            (self.optim.beta1, self.optim.beta2),
            self.optim.eps,
        )
        if self.low_precision:
            self.work[members].copy_(self.master[members])
        self._rates = [None if only in (None, k) else rate for k, rate in enumerate(self._rates)]

    def _numbers(self, k: int, rate: float | None) -> Numbers:
        if rate is None:
            return Numbers()
        self.counts[k] += 1
        optim = self.members[k].config.optim
        first, second = (1 - beta ** self.counts[k] for beta in (optim.beta1, optim.beta2))
        clip = optim.grad_clip or math.inf
        return Numbers(clip, rate, rate * optim.weight_decay, first, math.sqrt(second), 1.0)

    def wait(self) -> None:
        """Until the device has done what was asked of it."""
        self.losses.tolist()

    def _micro_batches(self, ids: Tensor) -> tuple[Tensor, ...]:
        """As the engine's, so that gradients add in the same parts."""
        rows = engines.windows_at_once(self.micro_windows, *ids.shape[1:], ids.device.type)
        return ids.split(rows, dim=1)

    def _prove(self, config: RunConfig) -> None:
        """Compile everything on a batch of zeros, or go on without the compiler."""
        shape = self.size, config.train.batch_windows, config.model.context
        ids = torch.zeros(shape, dtype=torch.long, device=self.device)  # (K, B, T)
        before = self.alive
        try:
            self.compute(ids, ids)
            self.alive = torch.zeros_like(before)
            for k in range(self.size):
                self.ask(k, 0.0)
            self.settle()
            self.wait()
            self.program.proven = True
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self.program.uncompile()
            warnings.warn(engines.uncompiled("fleet", error), stacklevel=2)
        self.alive = before
        self.counts, self._rates = [0] * self.size, [None] * self.size


class Member:
    """One model of a fleet, with the interface of an engine, for the training loop.

    Whoever looks at its weights after its update was asked for finds them updated. There is no
    moving average of them in a fleet.
    """

    average = None

    def __init__(self, fleet: Fleet, k: int, config: RunConfig) -> None:
        self.fleet, self.k, self.config = fleet, k, config
        self.low_precision = fleet.low_precision
        model = Transformer(config.model)
        initialise(model, config.train.seed, config.train.salt)
        named = dict(model.named_parameters())
        self._masters = fleet.layout.of_member(fleet.master[k])
        grads = fleet.layout.of_member(fleet.grad[k])
        for name, master in self._masters.items():
            master.copy_(named[name].detach())
            master.grad = grads[name]
        self._model = model.to(fleet.device, fleet.work.dtype)
        for name, working in fleet.layout.of_member(fleet.work[k]).items():
            named[name].data = working
        self.parameters = named
        self.optimizer = Moments(self)
        self.refresh()

    @property
    def masters(self) -> dict[str, Tensor]:
        """Name -> fp32 weight, a view; its ``grad`` is the gradient of the round."""
        self.fleet.settle(self.k)
        return self._masters

    @property
    def model(self) -> Transformer:
        """The module, in the working precision, whose parameters are views of the fleet's."""
        self.fleet.settle(self.k)
        return self._model

    @property
    def updates(self) -> int:
        """Updates made or asked for so far."""
        self.fleet.settle(self.k)
        return self.fleet.counts[self.k]

    @updates.setter
    def updates(self, count: int) -> None:
        self.fleet.counts[self.k] = count

    def gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of this round, in nats per token; the fleet has computed it."""
        return self.fleet.losses[self.k]

    def update(self, lr: float, norm: Tensor | None = None) -> Tensor:
        """Ask for the update; return the gradient norm before clipping, which the fleet knows."""
        self.fleet.ask(self.k, lr)
        return self.fleet.norms[self.k]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the working weights."""
        if self.low_precision:
            self.fleet.work[self.k].copy_(self.fleet.master[self.k])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """As an engine without a moving average."""
        yield

    @torch.no_grad()
    def exact_model(self) -> Transformer:
        """A copy of the model in fp32, for measurements that rounding would blur."""
        model = copy.deepcopy(self.model).float()
        for name, parameter in model.named_parameters():
            parameter.copy_(self._masters[name])
        return model


class Moments:
    """A member's optimizer as checkpoints see it: ``state[master]`` as torch.optim.AdamW has it."""

    def __init__(self, member: Member) -> None:
        self.state = _State(member)
        self.param_groups: list[dict[str, Any]] = []


class _State(MutableMapping[Tensor, Mapping[str, Any]]):
    """Master -> its step and moments; setting one copies it into the fleet's rows."""

    def __init__(self, member: Member) -> None:
        self._member = member
        fleet, k = member.fleet, member.k
        self._names = {id(master): name for name, master in member._masters.items()}
        self._first = fleet.layout.of_member(fleet.first[k])
        self._second = fleet.layout.of_member(fleet.second[k])

    def __getitem__(self, master: Tensor) -> dict[str, Any]:
        fleet, k = self._member.fleet, self._member.k
        fleet.settle(k)
        name = self._names[id(master)]
        step = torch.tensor(float(fleet.counts[k]), device=fleet.device)
        return {"step": step, "exp_avg": self._first[name], "exp_avg_sq": self._second[name]}

    def __setitem__(self, master: Tensor, values: Mapping[str, Any]) -> None:
        name = self._names[id(master)]
        self._first[name].copy_(values["exp_avg"])
        self._second[name].copy_(values["exp_avg_sq"])
        self._member.fleet.counts[self._member.k] = int(values["step"])

    def __delitem__(self, master: Tensor) -> None:
        raise TypeError("a member's moments cannot be taken away")

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._member._masters.values())

    def __len__(self) -> int:
        return len(self._names)


_programs: dict[tuple, Program] = {}
PROGRAMS = 6
"""Compiled programs kept. PyTorch keeps about so many versions of one function, then refuses."""


def program_for(config: RunConfig, size: int, compile: bool, mode: str | None) -> Program:
    """The program of a shape; a compiled one is an earlier fleet's of that shape and size."""
    dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
    make = lambda: Program(config.model, config.train.device, dtype, compile, mode)
    if not compile:
        return make()
    key = signature(config), size, mode
    if key not in _programs:
        if len(_programs) >= PROGRAMS:
            forget_programs()
        _programs[key] = make()
    return _programs[key]


def forget_programs() -> None:
    """Drop all compiled programs; a fleet that still uses one has it compiled again."""
    _programs.clear()
    torch.compiler.reset()
