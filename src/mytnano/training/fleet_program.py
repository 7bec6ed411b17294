"""The shared program of a fleet: K models of one shape, forward and backward, as batched products.

Only the forward pass goes through ``vmap``; ordinary autograd differentiates it from outside. So
PyTorch's batching rules are needed for forward operations alone (attention's backward has none,
pytorch#117016), and every gradient is that of the solo program, batched.

The embedding and the head are outside, as in :mod:`mytnano.training.engine`: their tables are of
the vocabulary's size, and their gradients are added straight to where they belong.

Shapes: K members, B windows, T tokens, D width, V vocabulary, P numbers of one member's row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mytnano.config import ModelConfig
from mytnano.model.loss import piece_rows
from mytnano.model.norms import batchable
from mytnano.model.transformer import TABLES, Attention, Transformer

ALIGN = 64
"""Every tensor begins at a multiple of so many numbers of a row: kernels load 16 bytes at once."""

HEAD = "head.weight"


@dataclass(frozen=True)
class Place:
    """Where a named tensor lies in a member's row."""

    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """All parameters of a model in one row of ``width`` numbers.

    Attributes:
        places: name -> where it lies.
        lookups: the tables whose rows belong to tokens. The row's width, and where a table begins,
            are multiples of the table's width, so the rows of all members are one long table too.
        head: name of the table that makes the logits.
    """

    places: dict[str, Place]
    width: int
    lookups: tuple[str, ...]
    head: str

    def lines(self, name: str, members: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """All members' rows (K, P) as one table (lines, W), and each one's first line in it.

        Args:
            name: a table among ``lookups``. members: (K,), their numbers.
        """
        place = self.places[name]
        size = place.shape[1]
        first = (members * self.width + place.offset) // size  # (K,)
        return rows.view(-1, size), first

    def of_member(self, row: Tensor) -> dict[str, Tensor]:
        """Views of one member's row (P,), each in its parameter's shape."""
        return {
            name: row[place.offset : place.offset + place.size].view(place.shape)
            for name, place in self.places.items()
        }

    def stacked(self, rows: Tensor, name: str) -> Tensor:
        """A view (K, *shape) of one parameter in the rows (K, P) of all members."""
        place = self.places[name]
        flat = rows[:, place.offset : place.offset + place.size]  # (K, size)
        return flat.view(len(rows), *place.shape)

    def shares(self, table_lr: float, device: torch.device) -> Tensor:
        """(2, P): multiples of the rate, and of the rate in weight decay, which matrices have."""
        rows = torch.zeros(2, self.width, device=device)
        for name, tensor in self.of_member(rows[0]).items():
            tensor.fill_(table_lr if name.startswith(TABLES) and tensor.ndim >= 2 else 1.0)
        for name, tensor in self.of_member(rows[1]).items():
            tensor.copy_(self.of_member(rows[0])[name] * (tensor.ndim >= 2))
        return rows


def lay_out(model: Transformer) -> Layout:
    """Give every parameter of a model its place."""
    named = dict(model.named_parameters())
    tables = [table.weight for table in model.lookups()]
    names = {id(p): name for name, p in named.items()}
    lookups = tuple(names[id(table)] for table in tables)
    places, end, unit = {}, 0, ALIGN
    for name in sorted(named, key=lambda name: name not in lookups):
        shape = tuple(named[name].shape)
        step = math.lcm(ALIGN, shape[1]) if name in lookups else ALIGN
        unit = math.lcm(unit, step)
        places[name] = Place(-(-end // step) * step, shape)
        end = places[name].offset + places[name].size
    return Layout(places, -(-end // unit) * unit, lookups, names[id(model.head.weight)])


class Encoder(nn.Module):
    """``Transformer.encode`` as a module's ``forward``, which ``functional_call`` calls."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, *rows: Tensor) -> Tensor:
        return self.model.encode(*rows)  # (B, T, D)


class Program:
    """The stack of blocks of K models as one function.

    It holds no weights of its own, so that fleets of one shape can follow each other in it, and the
    second one finds it compiled.

    Attributes:
        layout: where every parameter lies in a member's row.
        names: the parameters that the blocks read: all but the tables.
        compiled: whether it goes through ``torch.compile``, and ``proven`` whether that is known to
            work; :meth:`uncompile` is for where it does not.
    """

    def __init__(
        self, config: ModelConfig, device: str, dtype: torch.dtype, compile: bool, mode: str | None
    ) -> None:
        model = Transformer(config)
        self.layout = lay_out(model)
        tables = {*self.layout.lookups, self.layout.head}
        self.names = [name for name in self.layout.places if name not in tables]
        for module in model.modules():
            if isinstance(module, Attention):
                module.may_group = False
        encoder = Encoder(model.to(device, dtype))
        # Made now, as a compiled function must not change its module.
        model.tables(config.context, torch.empty(0, device=device, dtype=dtype))

        def one(weights: dict[str, Tensor], rows: tuple[Tensor, ...]) -> Tensor:
            named = {f"model.{name}": weight for name, weight in weights.items()}
            return torch.func.functional_call(encoder, named, rows)  # (B, T, D)

        self._cpu = device == "cpu"
        self._encode: Callable[..., Tensor] = torch.vmap(one)
        self.adamw_: Callable[..., None] = adamw_
        self.compiled = compile
        self.proven = not compile
        self._eager = self._encode
        if compile:
            self._encode = torch.compile(self._encode, fullgraph=True, dynamic=False, mode=mode)
            self.adamw_ = torch.compile(adamw_, fullgraph=True, dynamic=False)

    def uncompile(self) -> None:
        """Go on without the compiler."""
        self.compiled, self.proven = False, True
        self._encode, self.adamw_ = self._eager, adamw_

    def encode(self, weights: dict[str, Tensor], rows: tuple[Tensor, ...]) -> Tensor:
        """Rows of the tables (K, B, T, W) to the states that enter the heads (K, B, T, D)."""
        if not self._cpu:
            return self._encode(weights, rows)
        # A CPU's fused attention, which long windows take, has no batching rule.
        with sdpa_kernel(SDPBackend.MATH), batchable():
            return self._encode(weights, rows)


def head_gradients(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: float,
    weight_grad: Tensor,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Each member's summed cross-entropy times ``scale``, and its gradient, a chunk at a time.

    As :func:`mytnano.model.loss.head_loss`, but each product is one of K matrices.

    Args:
        states: (K, N, D), what enters the heads. weight: (K, V, D). targets: (K, N) ids.
        scale: the weight of each position, such as one over their number.
        weight_grad: fp32 (K, V, D), to which the gradient of ``weight`` is added.
        softcap: largest logit; 0 is no cap.

    Returns:
        Losses (K,) in nats, fp32, and the gradient of ``states`` (K, N, D).
    """
    K, N, _ = states.shape
    V = weight.shape[1]
    losses = torch.zeros(K, device=states.device)  # (K,)
    grad_states = torch.empty_like(states)  # (K, N, D)
    rows = min(N, piece_rows(states.device.type, K * V)[0])
    for start in range(0, N, rows):
        part = slice(start, min(start + rows, N))
        logits = torch.bmm(states[:, part], weight.transpose(1, 2))  # (K, n, V)
        right = targets[:, part, None]  # (K, n, 1)
        logits32 = logits.float()  # (K, n, V): the logits' own memory if they are fp32
        if softcap:
            logits32.div_(softcap).tanh_()
            slope = 1 - logits32.square()  # (K, n, V): of the cap
            logits32.mul_(softcap)
        right_logit = logits32.gather(2, right)  # (K, n, 1)
        top = logits32.amax(2, keepdim=True)  # (K, n, 1)
        normaliser = logits32.sub_(top).exp_().sum(2, keepdim=True)  # (K, n, 1)
        losses += ((normaliser.log() + top - right_logit) * scale).sum((1, 2))
        torch.mul(logits32, scale / normaliser, out=logits)  # (K, n, V): softmax
        if logits.dtype == torch.float32:
            minus = torch.full_like(right, -scale, dtype=logits.dtype)  # (K, n, 1)
            logits.scatter_add_(2, right, minus)  # minus one at the right token
        else:  # as in the loss of one model
            gradient = (logits32.gather(2, right) / normaliser - 1) * scale  # (K, n, 1)
            logits.scatter_(2, right, gradient.to(logits.dtype))
        if softcap:
            logits.mul_(slope)
        grad_states[:, part] = torch.bmm(logits, weight)  # (K, n, D)
        weight_grad += torch.bmm(logits.transpose(1, 2), states[:, part])  # (K, V, D)
    return losses, grad_states


class Numbers(NamedTuple):
    """What one member's update takes, in the order of :func:`adamw_`; by default, none.

    Attributes:
        clip: largest gradient norm. lr: rate. decay: rate times weight decay.
        first, second: bias corrections, the second one's root.
        asked: 1 if there is an update to make, else 0.
    """

    clip: float = math.inf
    lr: float = 0.0
    decay: float = 0.0
    first: float = 1.0
    second: float = 1.0
    asked: float = 0.0


def adamw_(
    rows: tuple[Tensor, Tensor, Tensor],
    grad: Tensor,
    norm: Tensor,
    numbers: Tensor,
    alive: Tensor,
    shares: Tensor,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """One step of AdamW (Loshchilov & Hutter 2019) in place, for every member that is alive.

    As ``torch.optim.AdamW`` after ``clip_grads_with_norm_``, with numbers of its own for each
    member. What a dead one has is left as it is, whatever its gradient.

    Args:
        rows: weights and both moments, fp32 (K, P) each. grad: (K, P). norm: (K, 1), its norms.
        numbers: (5, K, 1), all members' :class:`Numbers` but the last.
        alive: bool (K, 1). shares: (2, P), from :meth:`Layout.shares`.
    """
    weight, first, second = rows
    clip, lr, decay, correction, root = numbers  # (K, 1) each
    grad = grad * (clip / (norm + 1e-6)).clamp(max=1)  # (K, P)
    mean = first.lerp(grad, 1 - betas[0])  # (K, P)
    square = second * betas[1] + (1 - betas[1]) * grad * grad  # (K, P)
    step = mean / (square.sqrt() / root + eps) * (lr / correction) * shares[0]  # (K, P)
    new = weight * (1 - decay * shares[1]) - step  # (K, P)
    weight.copy_(torch.where(alive, new, weight))
    first.copy_(torch.where(alive, mean, first))
    second.copy_(torch.where(alive, square, second))
