"""One optimizer step, fast: precision, compilation and micro-batches around a plain model.

In bf16 the model itself is bf16, which on a CPU is faster than autocast (no cast per operation),
and the optimizer works on fp32 master weights, from which the bf16 ones are copied after each step.

The embedding, the value table and the head are tables of the vocabulary's size, of which a step
touches few rows (the first two) or all at once (the head). Their gradients are added straight to
the masters' instead of going through a dense tensor each.

A design may ask for a moving average of its weights. It is kept beside the masters, and takes their
place while text is scored and the model is saved.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mytnano.config import RunConfig
from mytnano.errors import brief
from mytnano.model.init import initialise
from mytnano.model.loss import head_loss
from mytnano.model.own import check_unchanged
from mytnano.model.transformer import Transformer, documents_of
from mytnano.training import memory
from mytnano.training.optimizers import LR_SCALE, build_optimizer

MICRO_TOKENS = 4096
"""Tokens of one pass on a CPU, so that activations stay in its cache; gradients add in fp32."""


class Engine:
    """A model, its master weights and its optimizer.

    Attributes:
        model: the module that computes, in the working precision.
        masters: name -> fp32 weight that the optimizer updates; the module's own parameters when
            that precision is fp32.
        optimizer: over the masters; see :mod:`mytnano.training.optimizers`.
        average: name -> moving average of a master; None without one.
        updates: steps made so far.
    """

    def __init__(self, config: RunConfig) -> None:
        check_unchanged(config.model)
        check_unchanged(config.optim)
        if config.train.device == "cpu":
            memory.keep_freed()
        self.config = config
        model = Transformer(config.model)
        initialise(model, config.train.seed, config.train.salt)
        model = model.to(config.train.device)
        self.clip = config.optim.grad_clip
        self.low_precision = config.train.precision == "bf16"
        if self.low_precision:
            self.masters = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.model = model.to(torch.bfloat16) if self.low_precision else model
        if config.train.recompute:
            recompute_blocks(self.model)
        self.micro_windows = config.train.micro_windows
        self.parameters = dict(self.model.named_parameters())
        if not self.low_precision:
            self.masters = self.parameters
        self.optimizer = build_optimizer(self.masters, config)
        for master in self.masters.values():
            master.grad = torch.zeros_like(master)
        self.lookups = self.model.lookups()
        tables = ("embedding.weight", "value_embedding.weight")
        self.table_grads = [self.masters[name].grad for name in tables if name in self.masters]
        self.head_grad = self.masters.get("head.weight", self.masters["embedding.weight"]).grad
        self.softcap, self.ema, self.updates = config.model.softcap, config.optim.ema, 0
        self.average = (
            {n: p.detach().clone() for n, p in self.masters.items()} if self.ema else None
        )
        self.encode = self.model.encode
        if config.train.compile:
            # Made within the graph they would be another state, for which it is compiled again.
            self.model.tables(config.model.context, self.model.embedding.weight)
            make_room(config)
            self.encode = compiled(self.encode, config.train.device)

    def gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave the gradient of the mean loss in the masters; return that loss in nats per token.

        Args:
            x, y: (B, T) ids.
        """
        total = torch.zeros((), device=x.device)
        head = self.model.head.weight.detach()  # (V, D)
        for ids, targets in zip(*(self._micro_batches(ids) for ids in (x, y)), strict=True):
            rows = [t(ids).detach().requires_grad_() for t in self.lookups]  # (B, T, width) each
            states = self.encode(*rows, documents=self.documents(ids))  # (B, T, D)
            loss = head_loss(states, head, targets, 1 / y.numel(), self.head_grad, self.softcap)
            loss.backward()
            for grad, row in zip(self.table_grads, rows, strict=True):
                grad.index_add_(0, ids.flatten(), row.grad.flatten(0, 1).float())
            total += loss.detach()
            if self.low_precision:
                self._collect()
        return total

    def gradient_norm(self) -> Tensor:
        """The global norm of the gradients, before clipping."""
        grads = [p.grad for p in self.masters.values()]
        return torch.nn.utils.get_total_norm(grads, foreach=self._foreach)

    @property
    def _foreach(self) -> bool | None:
        """Whether many tensors go through one kernel; None has PyTorch decide, which on Apple's
        GPUs refuses to be told."""
        return None if self.config.train.device == "mps" else True

    def discard(self) -> None:
        """Forget the gradients, as if the step had not been."""
        self.optimizer.zero_grad(set_to_none=False)

    def update(self, lr: float, norm: Tensor | None = None) -> Tensor:
        """Clip, step, and refresh the working weights; return the gradient norm before clipping.

        A caller that has :meth:`gradient_norm` already gives it.
        """
        masters = list(self.masters.values())
        norm = self.gradient_norm() if norm is None else norm
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(masters, self.clip, norm, foreach=self._foreach)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get(LR_SCALE, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.updates += 1
        if self.average is not None:
            self._add_to_average()
        if self.low_precision:
            self.refresh()
        return norm

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the working weights."""
        torch._foreach_copy_(list(self.parameters.values()), list(self.masters.values()))

    @torch.no_grad()
    def _add_to_average(self) -> None:
        """Early steps weigh more (as TensorFlow's average does), or the initial weights would."""
        decay = min(self.ema, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.average.values()), list(self.masters.values()), 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the masters and the model hold the averaged weights, if there are any."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        if self.average is None:
            return
        for name, master in self.masters.items():
            current = master.clone()
            master.copy_(self.average[name])
            self.average[name].copy_(current)
        if self.low_precision:
            self.refresh()

    @torch.no_grad()
    def exact_model(self) -> Transformer:
        """A copy of the model in fp32, for measurements that rounding would blur."""
        model = copy.deepcopy(self.model).float()
        for name, parameter in model.named_parameters():
            parameter.copy_(self.masters[name])
        return model

    def documents(self, ids: Tensor) -> Tensor | None:
        """What keeps the documents of windows (B, T) apart; None where they are one text."""
        data = self.config.data
        return None if data.cross_documents else documents_of(ids, data.end_of_document)

    def _micro_batches(self, ids: Tensor) -> tuple[Tensor, ...]:
        windows, tokens = ids.shape
        return ids.split(windows_at_once(self.micro_windows, windows, tokens, ids.device.type))

    def _collect(self) -> None:
        """Add the working weights' gradients to the masters'; those of the tables are there."""
        given = [(n, p) for n, p in self.parameters.items() if p.grad is not None]
        if given:
            masters = [self.masters[name].grad for name, _ in given]
            torch._foreach_add_(masters, [p.grad for _, p in given])
        for _, parameter in given:
            parameter.grad = None


def uneven(windows: int, ranks: int) -> str | None:
    """Why so many ranks cannot share a step of so many windows, in a sentence, or None."""
    if windows % ranks == 0:
        return None
    fits = [n for n in range(1, windows + 1) if windows % n == 0]
    nearest = min(fits, key=lambda n: (abs(n - ranks), n))
    return (
        f"a batch of {windows} windows cannot be shared evenly by {ranks} ranks: give "
        f"--nproc-per-node {nearest}, or a train.batch_windows that {ranks} divides"
    )


def windows_at_once(wanted: int, windows: int, tokens: int, device: str) -> int:
    """Windows of one pass out of a step's ``windows`` of ``tokens`` tokens on a type of device.

    ``wanted`` of them, ``train.micro_windows``; for 0 what suits the device.
    """
    fitting = max(1, MICRO_TOKENS // tokens) if device == "cpu" else windows
    return min(windows, wanted or fitting)


def recompute_blocks(model: Transformer) -> None:
    """Have each block keep its input alone and compute the rest again backward, bit for bit alike.

    The memory of activations then grows with the width of the stream instead of everything inside
    the blocks, for a third more arithmetic (Chen et al. 2016).
    """
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def compiled(function: Callable[..., Tensor], device: str = "cpu") -> Callable[..., Tensor]:
    """``torch.compile`` of a function; itself where that cannot be compiled, which is said once."""
    if not can_compile(device):
        warnings.warn(NO_COMPILER[device == "cuda"], stacklevel=2)  # shown once by Python
        return function
    # A second batch size, of timing or of scoring, must not make the kernels of all general.
    chosen, proven = torch.compile(function, dynamic=False), False

    @functools.wraps(function)
    def either(*arguments: Any, **named: Any) -> Tensor:
        nonlocal chosen, proven
        if proven:
            return chosen(*arguments, **named)
        try:
            result = chosen(*arguments, **named)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton without Python's headers, or a compiler that fails
            result = function(*arguments, **named)  # raises it again if the function is at fault
            chosen = function
            warnings.warn(uncompiled("run", error), stacklevel=2)
        proven = True
        return result

    return either


def make_room(config: RunConfig) -> None:
    """Forget what was compiled for other shapes before PyTorch refuses to compile for this one."""
    train = config.train
    shape = (config.model, config.data.cross_documents, train.device, train.precision)
    shape += (train.batch_windows, train.micro_windows, train.recompute)
    if shape not in _shapes and len(_shapes) >= SHAPES:
        _shapes.clear()
        torch.compiler.reset()
    _shapes.add(shape)


_shapes: set[tuple] = set()
SHAPES = 4
"""Compiled shapes of one process, each of up to two sizes of a pass: of one function PyTorch keeps
eight versions (``recompile_limit``), and runs it uncompiled for any other, without a word."""


def uncompiled(what: str, error: Exception) -> str:
    """The sentence for what could not be compiled, such as a ``run``."""
    return f"the {what} goes on uncompiled ({brief(error)[:200]}): slower, with the same result"


NO_COMPILER = tuple(
    f"no {what} was found, so the run goes on uncompiled: slower, with the same result"
    for what in ("C++ compiler", "Triton with a C compiler")
)


def can_compile(device: str = "cpu") -> bool:
    """Whether torch.compile has what it needs: a C++ compiler, on CUDA Triton and one for C."""
    names = ("c++", "g++", "clang++", "cl")
    if device == "cuda":
        if importlib.util.find_spec("triton") is None:
            return False
        names = (*names, "cc", "gcc", "clang")
    return any(shutil.which(name) for name in names)
