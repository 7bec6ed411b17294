"""One optimizer step, fast: precision, compilation and micro-batches around a plain model.

In bf16 the model itself is bf16, which on a CPU is faster than autocast (no cast per operation),
and AdamW works on fp32 master weights, from which the bf16 ones are copied after each step.

The embedding and the head are tables of the vocabulary's size, of which a step touches few rows
(the one) or all at once (the other). Their gradients are added straight to the masters' instead of
going through a dense tensor each.
"""

from __future__ import annotations

import copy
import functools
import shutil
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mytnano.config import RunConfig
from mytnano.model.init import initialise
from mytnano.model.loss import head_loss
from mytnano.model.own import check_unchanged
from mytnano.model.transformer import Transformer, documents_of

MICRO_TOKENS = 4096
"""Tokens of one pass on a CPU, so that activations stay in its cache; gradients add in fp32."""


class Engine:
    """A model, its master weights and its optimizer.

    Attributes:
        model: the module that computes, in the working precision.
        masters: name -> fp32 weight that the optimizer updates; the module's own parameters when
            that precision is fp32.
        optimizer: ``torch.optim.AdamW`` over the masters.
    """

    def __init__(self, config: RunConfig) -> None:
        check_unchanged(config.model)
        self.config = config
        model = Transformer(config.model)
        initialise(model, config.train.seed, config.train.salt)
        model = model.to(config.train.device)
        self.clip = config.optim.grad_clip
        self.low_precision = config.train.precision == "bf16"
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
        self.table_grad = self.masters["embedding.weight"].grad
        self.head_grad = self.masters.get("head.weight", self.masters["embedding.weight"]).grad
        self.encode = compiled(self.model.encode) if config.train.compile else self.model.encode

    def gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave the gradient of the mean loss in the masters; return that loss in nats per token.

        Args:
            x, y: (B, T) ids.
        """
        total = torch.zeros((), device=x.device)
        head = self.model.head.weight.detach()  # (V, D)
        for ids, targets in zip(*(self._micro_batches(ids) for ids in (x, y)), strict=True):
            embedded = self.model.embedding(ids).detach().requires_grad_()  # (B, T, D)
            states = self.encode(embedded, documents=self.documents(ids))  # (B, T, D)
            loss = head_loss(states, head, targets, 1 / y.numel(), self.head_grad)
            loss.backward()
            self.table_grad.index_add_(0, ids.flatten(), embedded.grad.flatten(0, 1).float())
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

    def update(self, lr: float) -> Tensor:
        """Clip, step, and refresh the working weights; return the gradient norm before clipping."""
        masters = list(self.masters.values())
        norm = self.gradient_norm()
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(masters, self.clip, norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        if self.low_precision:
            self.refresh()
        return norm

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the working weights."""
        torch._foreach_copy_(list(self.parameters.values()), list(self.masters.values()))

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
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.masters[name].grad += parameter.grad
                parameter.grad = None


def build_optimizer(masters: dict[str, Tensor], config: RunConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); matrices decay, gains and biases do not."""
    optim = config.optim
    groups = [
        {
            "params": [p for p in masters.values() if p.ndim >= 2],
            "weight_decay": optim.weight_decay,
        },
        {"params": [p for p in masters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True
    )


def recompute_blocks(model: Transformer) -> None:
    """Have each block keep its input alone and compute the rest again backward, bit for bit alike.

    The memory of activations then grows with the width of the stream instead of everything inside
    the blocks, for a third more arithmetic (Chen et al. 2016).
    """
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def compiled(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``torch.compile`` of a function; itself where there is no compiler, which is said once."""
    if can_compile():
        return torch.compile(function)
    warnings.warn(NO_COMPILER, stacklevel=2)  # Python shows a warning of one place once
    return function


NO_COMPILER = (
    "no C++ compiler was found, so the run goes on uncompiled: slower, with the same result"
)


def can_compile() -> bool:
    """Whether torch.compile has what it needs on a CPU, a C++ compiler."""
    return any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
