"""The optimizers, and which weights each of them updates.

Weights are of three kinds: matrices of the blocks, tables (embedding, positions, value embeddings,
head), and the rest (gains, biases, scalars), which do not decay. ``muon`` is for the matrices only,
as orthogonal updates make sense between activations; AdamW has the others.

An optimizer of one's own, ``optimizer: ./mine.py:MyOptimizer``, is a ``torch.optim.Optimizer`` that
is called as ``MyOptimizer(param_groups, lr=...)``. Each group says in ``role`` which kind it holds
(``matrix``, ``table`` or ``vector``) and brings its ``weight_decay``; its ``lr`` is set before
every step.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from mytnano.config import ModelConfig, OptimConfig, RunConfig, is_own
from mytnano.errors import UserError, brief, needs
from mytnano.model.own import load_class
from mytnano.model.scaling import adamw_rule
from mytnano.model.skeleton import skeleton
from mytnano.model.transformer import TABLES, is_hidden_matrix

NS_STEPS = 5
"""Newton-Schulz iterations of an update; PyTorch's default and Keller Jordan's."""

RMS = 0.2
"""Root mean square of AdamW's typical update, which Muon's is scaled to (Liu et al. 2025), so that
one learning rate serves both."""

STATE_BYTES = 16
"""Of a parameter that AdamW trains: fp32 weight, gradient and both moments."""

LR_SCALE = "lr_scale"
"""Key of a group whose learning rate is a multiple of the others'."""


class Muon(torch.optim.Muon):
    """PyTorch's Muon with its matrix products in the precision of the gradients.

    PyTorch's rounds them to bf16, which a CPU without units for it multiplies tens of times slower
    than fp32. State, hyperparameters and result are the same but for that rounding.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in (p for p in group["params"] if p.grad is not None):
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)  # (m, n)
                buffer = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)  # (m, n)
                ahead = weight.grad.lerp(buffer, momentum)  # (m, n): Nesterov's look ahead
                update = orthogonalised(ahead, group["ns_coefficients"], group["eps"])  # (m, n)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-lr * RMS * max(weight.shape) ** 0.5)


def orthogonalised(matrix: Tensor, coefficients: tuple[float, float, float], eps: float) -> Tensor:
    """About U V^T of the matrix (m, n) = U S V^T: Newton-Schulz iterations (Jordan et al. 2024).

    The polynomial is tuned for speed: singular values end between 0.7 and 1.2, not at one.
    """
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix  # (m, n), m <= n from here
    x = x / x.norm().clamp(min=eps)  # (m, n)
    for _ in range(NS_STEPS):
        gram = x @ x.T  # (m, m)
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # (m, n)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Several:
    """Optimizers of different weights as one: common groups, common state.

    Attributes:
        parts: the optimizers.
        param_groups: the groups of all.
        state: weight -> its state, as in each part.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        for part in parts:
            part.state = self.state

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


def build_optimizer(masters: Mapping[str, Tensor], config: RunConfig) -> Optimizer | Several:
    """The optimizer of a run over its fp32 weights.

    AdamW is Loshchilov & Hutter 2019, Muon Jordan et al. 2024, Lion Chen et al. 2023.

    Args:
        masters: name -> weight.

    Raises:
        UserError: Lion's package is missing, or a user's optimizer cannot be made.
    """
    optim = config.optim
    groups = weight_groups(masters, optim)
    if config.model.scaling != "standard":
        return _adamw(scaled_groups(masters, groups, config), optim)
    if is_own(optim.optimizer):
        return build_own_optimizer(optim, groups)
    if optim.optimizer == "lion":
        return lion()(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2))
    if optim.optimizer == "adamw":
        return _adamw(groups, optim)
    matrices = [p for name, p in masters.items() if is_hidden_matrix(name, p)]
    rest = {name: p for name, p in masters.items() if not is_hidden_matrix(name, p)}
    adamw = _adamw(weight_groups(rest, optim), optim)
    if not matrices:  # a bigram
        return adamw
    kind = torch.optim.Muon if config.train.precision == "bf16" else Muon
    muon = kind(
        matrices,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
        ns_steps=NS_STEPS,
        adjust_lr_fn="match_rms_adamw",
    )
    return Several(muon, adamw)


def weight_groups(masters: Mapping[str, Tensor], optim: OptimConfig) -> list[dict[str, Any]]:
    """Groups as ``torch.optim`` takes them: matrices, tables, and the rest, which do not decay.

    Matrices and tables are one group where one rate is for both, unless the optimizer is a user's.
    """
    kinds: dict[str, list[Tensor]] = {"matrix": [], "table": [], "vector": []}
    together = optim.table_lr == 1 and not is_own(optim.optimizer)
    for name, weight in masters.items():
        table = name.startswith(TABLES) and not together
        kinds["vector" if weight.ndim < 2 else "table" if table else "matrix"].append(weight)
    return [
        {
            "params": weights,
            "role": role,
            "weight_decay": 0.0 if role == "vector" else optim.weight_decay,
            LR_SCALE: optim.table_lr if role == "table" else 1.0,
        }
        for role, weights in kinds.items()
        if weights or role != "table"
    ]


def scaled_groups(
    masters: Mapping[str, Tensor], groups: list[dict[str, Any]], config: RunConfig
) -> list[dict[str, Any]]:
    """The groups with a design's rules of scaling, weights of blocks apart from the rest."""
    kinds = {w: (is_hidden_matrix(n, w), n.startswith("blocks.")) for n, w in masters.items()}
    scaled = []
    for group, kind in itertools.product(groups, itertools.product((True, False), repeat=2)):
        weights = [weight for weight in group["params"] if kinds[weight] == kind]
        rule = adamw_rule(config.model, *kind)
        changes = {
            "params": weights,
            "weight_decay": group["weight_decay"] * rule.weight_decay,
            "eps": config.optim.eps * rule.eps,
            LR_SCALE: group[LR_SCALE] * rule.lr,
        }
        scaled += [{**group, **changes}] if weights else []
    return scaled


def _adamw(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True
    )


def lion() -> Any:
    """The class of the package ``lion-pytorch``.

    Raises:
        UserError: it is not installed.
    """
    try:
        from lion_pytorch import Lion
    except ImportError:
        raise needs("optimizer lion", "lion-pytorch", "optim") from None
    return Lion


def build_own_optimizer(optim: OptimConfig, groups: list[dict[str, Any]]) -> Optimizer:
    """A user's optimizer over groups.

    Raises:
        UserError: no such file or class, no ``torch.optim.Optimizer``, or it cannot be made.
    """
    named = optim.optimizer
    make = load_class(named)
    if not issubclass(make, Optimizer):
        raise UserError(f"{named} is no subclass of torch.optim.Optimizer: make it one")
    try:
        return make([group for group in groups if group["params"]], lr=optim.lr)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{named} cannot be made from (param_groups, lr=...): {brief(error)}"
        ) from None


def update_flops(config: RunConfig) -> float:
    """Counted operations of one update, gradients not included: matrix products, as everywhere.

    None for AdamW and Lion. Muon's do not depend on the batch, so with small batches they are no
    small part. A user's optimizer is counted by PyTorch's own counter.
    """
    return _update_flops(config.model, config.optim)


@functools.lru_cache(maxsize=64)
def _update_flops(model: ModelConfig, optim: OptimConfig) -> float:
    if optim.optimizer in ("adamw", "lion"):
        return 0.0
    own = is_own(optim.optimizer)
    weights = dict(skeleton(model, values=own).named_parameters())
    if not own:
        shapes = [sorted(p.shape) for name, p in weights.items() if is_hidden_matrix(name, p)]
        return float(sum(NS_STEPS * (4 * m * m * n + 2 * m**3) for m, n in shapes))
    optimizer = build_own_optimizer(optim, weight_groups(weights, optim))
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    with FlopCounterMode(display=False) as counter, torch.random.fork_rng(devices=[]):
        optimizer.step()
    return float(counter.get_total_flops())
