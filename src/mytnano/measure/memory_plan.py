"""The memory that training takes, by part, known before a step is made.

Weights, gradients and moments follow from shapes. Activations do not follow from a formula that
stays true, as each part of a design keeps other things for the backward pass: so one pass of one
micro-batch is made, forward and backward, on tensors without data (PyTorch's FakeTensorMode), and
every storage that it makes and drops is counted. The same code that trains is what is counted.

What a kernel takes inside itself is not seen. Nor is what an allocator loses between blocks: that
is an allowance of its own (:data:`HEAP_SHARE`).
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mytnano.config import ModelConfig, OptimConfig
from mytnano.model import attention
from mytnano.model.loss import (
    COLUMNS,
    LARGE_VOCABULARY,
    goes_by_columns,
    head_loss,
    piece_rows,
)
from mytnano.model.own import references
from mytnano.model.skeleton import skeleton
from mytnano.model.transformer import Transformer, documents_of, is_hidden_matrix

FP32, BF16 = 4, 2

DEEP = 4
"""Blocks beyond which the memory of a pass is a straight line in their number; even, as some parts
are in every second block."""

SHORT_HEAD = 1
"""Chunks of logits that are counted of many."""

HEAP_LIMIT = 32 << 20
"""The C library takes larger blocks from the system and gives them back; smaller ones stay in its
heap (``M_MMAP_THRESHOLD``'s upper limit in glibc)."""

HEAP_SHARE = 0.6
"""What glibc's heap takes beyond the tensors in it, as a share of them: holes between tensors that
come and go. Measured (scripts/memory_plan.py); the tensors alone are predicted much closer."""

RECOMPUTED_HEAP_SHARE = 2.3
"""The same where blocks recompute: few tensors are kept, but all pass through the heap."""

BYTES_OF_STATE = {"adamw": 8, "muon": 8, "lion": 4}
"""Of the optimizer, for each weight; Muon's own are :data:`MUON_STATE`, its others AdamW's."""

MUON_STATE = 4


@dataclass(frozen=True)
class Weights:
    """Numbers of weights.

    Attributes:
        total: all; a tied table counts once.
        hidden: matrices of the blocks.
        head: of the head, which the law of losses counts with the matrices.
        largest_block: of the largest block. root: outside of all blocks.
    """

    total: int
    hidden: int
    head: int
    largest_block: int
    root: int


@dataclass(frozen=True)
class Pass:
    """Bytes of one micro-batch's way through the model and back.

    Attributes:
        kept: alive when the states enter the head, for the backward pass.
        working: what the largest moment has beyond that: the head's logits, or a block's gradients.
        logits: the chunk of logits, which is within ``working``.
        heap: what of all of it, at the largest moment, is in tensors of at most ``HEAP_LIMIT``.
    """

    kept: int
    working: int
    logits: int
    heap: int


def count_weights(model: ModelConfig) -> Weights:
    """From shapes alone; a model of a user's own parts is built."""
    built = skeleton(model)
    sizes = {name: p.numel() for name, p in built.named_parameters()}
    hidden = sum(p.numel() for name, p in built.named_parameters() if is_hidden_matrix(name, p))
    blocks = [sum(p.numel() for p in block.parameters()) for block in built.blocks]
    total = sum(sizes.values())
    return Weights(
        total, hidden, model.width * model.vocab_size, max(blocks, default=0), total - sum(blocks)
    )


def state_bytes(weights: Weights, optim: OptimConfig) -> int:
    """Bytes of the optimizer's moments; a user's own is taken to keep two, as AdamW does."""
    each = BYTES_OF_STATE.get(optim.optimizer, 8)
    if optim.optimizer == "muon":
        return MUON_STATE * weights.hidden + each * (weights.total - weights.hidden)
    return each * weights.total


def logits_bytes(model: ModelConfig, tokens: int, precision: str, device: str) -> int:
    """Bytes of the logits that the loss holds at once (:mod:`mytnano.model.loss`)."""
    if goes_by_columns(device, _dtype(precision), tokens, model.vocab_size):
        return tokens * COLUMNS * _width(precision)
    rows = min(tokens, chunk_rows(model, device))
    return rows * model.vocab_size * _width(precision)


def chunk_rows(model: ModelConfig, device: str = "cpu") -> int:
    """Positions whose logits the loss holds at once on a type of device."""
    return piece_rows(device, model.vocab_size)[0]


@functools.lru_cache(maxsize=32)
def one_pass(
    model: ModelConfig,
    windows: int,
    precision: str = "fp32",
    prepare: Callable[[Transformer], None] | None = None,
    device: str = "cpu",
    cross_documents: bool = True,
    sharded: bool = False,
) -> Pass:
    """Count what a micro-batch of ``windows`` full windows takes.

    Of a deep model two shallow ones are counted, and the line through them taken.

    Args:
        prepare: what is done to the model before, such as having its blocks recompute.
        device: on a CPU attention goes in tiles, and the loss in small pieces; on others both go
            as on a GPU, with fused kernels.
        cross_documents: as in the config.
        sharded: gradients leave as soon as a block has made them, as FSDP has it; otherwise those
            of bf16 weights stay until the micro-batch is done.
    """
    options = (windows, precision, prepare, device, cross_documents, sharded)
    if model.layers <= DEEP:
        return _counted_pass(model, *options)
    few, more = (_counted_pass(model.but(layers=n), *options) for n in (DEEP - 2, DEEP))
    steps = (model.layers - DEEP) / 2
    return Pass(
        *(
            round(b + steps * (b - a))
            for a, b in zip(vars(few).values(), vars(more).values(), strict=True)
        )
    )


def _counted_pass(
    model: ModelConfig,
    windows: int,
    precision: str,
    prepare: Callable[[Transformer], None] | None,
    device: str,
    cross_documents: bool,
    sharded: bool,
) -> Pass:
    fake = contextlib.nullcontext() if references(model) else FakeTensorMode()
    with fake, _attention_tiles(device == "cpu"):
        with _default_dtype(_dtype(precision)):
            built = Transformer(model)
        if prepare is not None:
            prepare(built)
        gradients = [torch.zeros_like(p) for p in built.parameters()]
        if precision == "fp32" or sharded:  # into which the backward pass adds, or makes its own
            for parameter, gradient in zip(built.parameters(), gradients, strict=True):
                parameter.grad = gradient
        head_gradient = torch.zeros(model.vocab_size, model.width)  # (V, D)
        ids = torch.zeros(windows, model.context, dtype=torch.long)  # (B, T)
        counter = _Storages([*built.parameters(), *built.buffers(), *gradients, head_gradient, ids])
        with counter:
            kept = _forward_and_backward(
                built, ids, head_gradient, counter, cross_documents, device
            )
    logits = logits_bytes(model, ids.numel(), precision, device)
    return Pass(kept, max(0, counter.most - kept), logits, counter.heap_at_most)


def _forward_and_backward(
    model: Transformer,
    ids: Tensor,
    head_gradient: Tensor,
    counter: _Storages,
    cross_documents: bool,
    device: str,
) -> int:
    """The steps of ``Engine.gradients`` on one micro-batch; bytes alive at the head."""
    rows = [table(ids).detach().requires_grad_() for table in model.lookups()]  # (B, T, D) each
    documents = None if cross_documents else documents_of(ids, 0)  # (B, T)
    states = model.encode(*rows, documents=documents)  # (B, T, D)
    kept = counter.alive
    head, targets = model.head.weight.detach(), ids  # (V, D), (B, T)
    few = SHORT_HEAD * max(1, chunk_rows(model.config, device) // ids.shape[1])
    if goes_by_columns(device, head.dtype, ids.numel(), len(head)):
        first = slice(LARGE_VOCABULARY + 1)  # all columns take the same memory
        loss = _loss(model, states, head[first], targets, head_gradient[first], device)
    elif len(ids) > few:
        # The chunks follow each other and take the same memory: a few stand for all. The gradient
        # of the other states, which would be there too, is put beside them.
        rest = torch.empty_like(states[few:])  # (B - few, T, D)
        loss = _loss(model, states[:few], head, targets[:few], head_gradient, device)
        del rest
    else:
        loss = _loss(model, states, head, targets, head_gradient, device)
    loss.backward()
    for row in rows:
        row.grad.flatten(0, 1).float()  # (B T, D)
    return kept


def _loss(
    model: Transformer,
    states: Tensor,
    head: Tensor,
    targets: Tensor,
    head_gradient: Tensor,
    device: str,
) -> Tensor:
    return head_loss(states, head, targets, 1.0, head_gradient, model.config.softcap, device)


class _Storages(TorchDispatchMode):
    """Counts the bytes of every storage that operations make, while it lives.

    Attributes:
        alive, most: bytes now, and at the largest moment.
        heap, heap_at_most: of those, bytes in storages of at most ``HEAP_LIMIT``.
    """

    def __init__(self, known: list[Tensor]) -> None:
        """``known`` were there before and do not count."""
        super().__init__()
        self.alive = self.most = self.heap = self.heap_at_most = 0
        self._seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        size = storage.nbytes()
        self._seen[storage] = size
        self._count(size)
        weakref.finalize(storage, self._count, -size)

    def _count(self, size: int) -> None:
        self.alive += size
        self.heap += size if abs(size) <= HEAP_LIMIT else 0
        if self.alive > self.most:
            self.most, self.heap_at_most = self.alive, self.heap


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _attention_tiles(tiles: bool) -> Iterator[None]:
    """Without tiles even short windows go to PyTorch's kernel, which is what a GPU does."""
    before = attention.TILED_UP_TO
    attention.TILED_UP_TO = before if tiles else 0
    try:
        yield
    finally:
        attention.TILED_UP_TO = before


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _width(precision: str) -> int:
    return BF16 if precision == "bf16" else FP32
