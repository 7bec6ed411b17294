"""The engine of a rank: FSDP2 around the same plain model (Zhao et al. 2023; torchtitan).

Each block is a group whose weights are gathered when it runs and dropped after it; embedding, head
and what else is left form the root's group, whole from the embedding to the loss. Weights, moments
and gradients are fp32 and sharded over the ranks; in bf16 the gathered copies are bf16 and their
gradients are summed over ranks in fp32.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from mytnano.config import RunConfig
from mytnano.distributed.world import World
from mytnano.model.init import initialise
from mytnano.model.loss import head_loss
from mytnano.model.own import check_unchanged
from mytnano.model.skeleton import skeleton
from mytnano.model.transformer import Transformer
from mytnano.training.engine import Engine, build_optimizer, compiled, recompute_blocks


class ShardedEngine(Engine):
    """As :class:`~mytnano.training.engine.Engine`, on this rank's share of each batch.

    Every method is collective: all ranks call it, in the same order. ``masters`` are the shards of
    the weights (DTensors).
    """

    def __init__(self, config: RunConfig, world: World) -> None:
        check_unchanged(config.model)
        check_unchanged(config.optim)
        self.config, self.world = config, world
        self.clip = config.optim.grad_clip
        self.low_precision = False  # no second copy to refresh: FSDP casts what it gathers
        self.micro_windows = config.train.micro_windows
        self.model = skeleton(config.model)
        shard(self.model, config, world)
        self.model.to_empty(device=world.device)
        initialise(self.model, config.train.seed, config.train.salt, put)
        self.parameters = self.masters = dict(self.model.named_parameters())
        self.optimizer = build_optimizer(self.masters, config)
        for master in self.masters.values():
            master.grad = torch.zeros_like(master)
        self.ema, self.updates, self.average = config.optim.ema, 0, None
        if self.ema:
            self.average = {name: p.detach().clone() for name, p in self.masters.items()}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the masters hold the averaged weights, if there are any.

        What was gathered before is dropped at both ends: an evaluation leaves the root's group
        whole, and a later pass would take those weights for the current ones.
        """
        self.model.reshard()
        with super().averaged():
            yield
            self.model.reshard()

    def gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave the gradient of the whole batch's mean loss in the masters; return that loss.

        Args:
            x, y: (B / ranks, T) ids, this rank's share.
        """
        total = torch.zeros((), device=x.device)
        scale = 1 / (y.numel() * self.world.size)  # of the whole batch: gradients are summed
        parts = list(zip(self._micro_batches(x), self._micro_batches(y), strict=True))
        for place, (ids, targets) in enumerate(parts, 1):
            last = place == len(parts)
            self.model.set_is_last_backward(last)
            self.model.set_requires_gradient_sync(last)  # added up here first, in fp32
            loss = self.model.loss(ids, targets, scale, self.documents(ids))
            loss.backward()
            total += loss.detach()
        dist.all_reduce(total)
        return total

    def gradient_norm(self) -> Tensor:
        """The norm of the whole gradient before clipping, on every rank."""
        return whole(super().gradient_norm())

    @torch.no_grad()
    def exact_model(self) -> Transformer | None:
        """A whole copy of the model in fp32, on the chief; it would take as much on every rank."""
        model = None
        if self.world.chief:
            model = skeleton(self.config.model).to_empty(device=self.world.device)
            if self.config.model.tied:  # which the move from the meta device has cut
                model.head.weight = model.embedding.weight
        places = {} if model is None else dict(model.named_parameters())
        for name, master in self.masters.items():
            value = whole(master.detach())  # with the help of all ranks
            if model is not None:
                places[name].copy_(value)
        for name, buffer in [] if model is None else model.named_buffers():
            buffer.copy_(self.model.get_buffer(name))
        return model


def shard(model: Transformer, config: RunConfig, world: World) -> None:
    """Make a model's parameters shards of a mesh, and its blocks gather them when they run."""
    low = config.train.precision == "bf16"
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if low
        else MixedPrecisionPolicy()
    )
    if config.train.compile:
        for block in model.blocks:
            # The arithmetic alone: the hooks that gather weights stay outside of the graph.
            block.forward = compiled_to_train(block.forward, config.train.device)
    if config.train.recompute:
        recompute_blocks(model)
    for block in model.blocks:
        fully_shard(block, mesh=world.mesh, mp_policy=policy)
    model.loss = types.MethodType(_loss, model)
    fully_shard(model, mesh=world.mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "loss")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each rank's loss is divided by the tokens of all, so gradients are summed.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def compiled_to_train(forward: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """A forward pass that is compiled where gradients are asked for, and plain elsewhere.

    Text that is scored or written comes in batches and windows of many sizes, for each of which it
    would be compiled again, until PyTorch refuses (``recompile_limit``).
    """
    fast = compiled(forward, device)

    @functools.wraps(forward)
    def either(*arguments: object) -> Tensor:
        return (fast if torch.is_grad_enabled() else forward)(*arguments)

    return either


def _loss(
    self: Transformer, ids: Tensor, targets: Tensor, scale: float, documents: Tensor | None = None
) -> Tensor:
    """Summed loss of (B, T) ids, times ``scale``: within one call, as FSDP holds embedding and head
    whole for as long as a forward method runs and its gradient is due."""
    rows = [_Lookup.apply(table.weight, ids) for table in self.lookups()]  # (B, T, D), ...
    states = self.encode(*rows, documents=documents)  # (B, T, D)
    return head_loss(states, self.head.weight, targets, scale, softcap=self.config.softcap)


class _Lookup(torch.autograd.Function):
    """Rows of a table, whose gradient is added up in fp32: a frequent token's many small terms
    would be lost in a sum of bf16."""

    @staticmethod
    def forward(ctx, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.like = table.shape, table.dtype
        return table[ids]  # (B, T, D)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (ids,) = ctx.saved_tensors
        shape, dtype = ctx.like
        total = torch.zeros(shape, device=grad.device)  # (V, D)
        total.index_add_(0, ids.flatten(), grad.flatten(0, 1).float())
        return total.to(dtype), None


def put(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor, which every rank holds, into a target that may be sharded."""
    if isinstance(target, DTensor):
        value = value.to(target.device)
        value = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded, on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
