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

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mytnano.config import RunConfig
from mytnano.model.init import initialise
from mytnano.model.loss import head_loss
from mytnano.model.own import check_unchanged
from mytnano.model.transformer import Transformer, documents_of
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
        return torch.nn.utils.get_total_norm([p.grad for p in self.masters.values()], foreach=True)

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
            torch.nn.utils.clip_grads_with_norm_(masters, self.clip, norm, foreach=True)
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
        rows = max(1, MICRO_TOKENS // ids.shape[1]) if ids.device.type == "cpu" else len(ids)
        return ids.split(self.micro_windows or rows)

    def _collect(self) -> None:
        """Add the working weights' gradients to the masters'; those of the tables are there."""
        given = [(n, p) for n, p in self.parameters.items() if p.grad is not None]
        if given:
            masters = [self.masters[name].grad for name, _ in given]
            torch._foreach_add_(masters, [p.grad for _, p in given])
        for _, parameter in given:
            parameter.grad = None


def recompute_blocks(model: Transformer) -> None:
    """Have each block keep its input alone and compute the rest again backward, bit for bit alike.

    The memory of activations then grows with the width of the stream instead of everything inside
    the blocks, for a third more arithmetic (Chen et al. 2016).
    """
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def compiled(
    function: Callable[[Tensor], Tensor], device: str = "cpu"
) -> Callable[[Tensor], Tensor]:
    """``torch.compile`` of a function; itself where there is no compiler, which is said once."""
    if can_compile(device):
        # A second batch size, of timing or of scoring, must not make the kernels of all general.
        return torch.compile(function, dynamic=False)
    warnings.warn(NO_COMPILER[device == "cuda"], stacklevel=2)  # shown once by Python
    return function


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
