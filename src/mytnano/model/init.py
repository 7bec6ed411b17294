"""One table of initial weights, and a random stream of its own for every tensor.

===============  ===============  ===============  ============  ==========  ================
tensor           ``torch``        ``zero-out``     ``gpt2``      ``logged``  ``modern``
===============  ===============  ===============  ============  ==========  ================
embedding        N(0, 1)          N(0, 1)          N(0, 0.02)    N(0, 0.02)  N(0, 1)
position         N(0, 1)          N(0, 1)          N(0, 0.02)    N(0, 0.02)  as embedding
tied embedding   N(0, 1)          N(0, 1)          N(0, 0.02)    N(0, r)     N(0, 0.02)
head             U(+-1/sqrt(D))   U(+-1/sqrt(D))   N(0, 0.02)    N(0, r)     N(0, 0.001)
matrix           U(+-1/sqrt(in))  U(+-1/sqrt(in))  N(0, 0.02)    N(0, r)     N(0, 1/sqrt(in))
into the stream  as matrix        0                N(0, 0.02 r)  N(0, r)     0
===============  ===============  ===============  ============  ==========  ================

Under every rule a gain is 1, a bias 0, a value table N(0, 1/sqrt(D)), and the scalars of blocks
(``x_scales``, ``x0_scales``, ``value_scales``) are 1, 0 and 1.

The second argument of N is the standard deviation, and r = 1/sqrt(2 layers). ``torch`` is what
``nn.Linear`` and ``nn.Embedding`` do by themselves. ``zero-out`` also zeroes the two matrices of a
block that write into the residual stream, so that every block starts as the identity (Goyal et al.
2017; modded-nanogpt). ``gpt2`` is Radford et al. 2019. ``logged`` is what the log's code did in its
stages 7 to 9: the residual factor became everybody's standard deviation (0.354 at four layers), and
tying carried it to the embedding. ``modern`` is nanochat's and, in most, modded-nanogpt's: weights
that keep the scale of what passes, projections that start silent, and a head that starts almost
uniform. Where a norm follows a zero matrix (``norm_place: sandwich``) it undoes that start with the
first step; ``torch`` and ``gpt2`` suit it better.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from mytnano.config import ModelConfig
from mytnano.model.own import own_modules
from mytnano.model.scaling import init_factor, residual_layers
from mytnano.model.transformer import TABLES, Transformer

WRITES = "into_the_stream"
"""Attribute of a user's class that names its weights of that kind."""

SILENT = ("zero-out", "modern")
"""Rules that zero what writes into the residual stream."""

INTO_THE_STREAM = ("mixer.output.weight", "ffn.down.weight")

Put = Callable[[Tensor, Tensor], object]
"""Copies a whole value into a parameter or buffer, of which this process may hold a part only."""


def initialise(model: Transformer, seed: int, salt: str = "", put: Put = Tensor.copy_) -> None:
    """Fill every parameter in place from ``(seed, its name, salt)``.

    A tensor's values do not depend on which other tensors exist, so two designs with the same seed
    share all the weights that they have in common (common random numbers), and another salt gives
    an independent twin. Nor do they depend on how many processes share the model.
    """
    with torch.no_grad():
        own = initialise_own(model, seed, salt, put)
        for name, parameter in model.named_parameters():
            if name not in own:
                value = initial_value(name, tuple(parameter.shape), model.config, seed, salt)
                put(parameter, value)


def initialise_own(model: Transformer, seed: int, salt: str, put: Put = Tensor.copy_) -> set[str]:
    """Give users' modules what their ``__init__`` draws from ``(seed, place, salt)``.

    Returns:
        The names of their parameters.
    """
    done: set[str] = set()
    for place, module in own_modules(model):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, place, salt))
            fresh = module.remade()
        for (name, parameter), (_, value) in zip(
            module.named_parameters(), fresh.named_parameters(), strict=True
        ):
            zero = model.config.init in SILENT and name in getattr(module, WRITES, ())
            put(parameter, torch.zeros_like(value) if zero else value)
            done.add(f"{place}.{name}")
        for (_, buffer), (_, value) in zip(
            module.named_buffers(), fresh.named_buffers(), strict=True
        ):
            put(buffer, value)
    return done


def initial_value(
    name: str, shape: tuple[int, ...], config: ModelConfig, seed: int, salt: str
) -> Tensor:
    """The fp32 starting value of one named tensor, by the table above and the design's scaling."""
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith(("bias", "x0_scales")) else torch.ones(shape)
    value = _unscaled_value(name, shape, config, seed, salt)
    factor = init_factor(name, config, hidden=not name.startswith(TABLES))
    return value if factor == 1 else value * factor


def _unscaled_value(
    name: str, shape: tuple[int, ...], config: ModelConfig, seed: int, salt: str
) -> Tensor:
    table = name.startswith(("embedding", "position"))
    into_the_stream = name.endswith(INTO_THE_STREAM)
    if config.init in SILENT and into_the_stream:
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(stream_seed(seed, name, salt))
    if name.startswith("value_embedding"):
        return torch.randn(shape, generator=generator) / math.sqrt(config.width)
    if config.init in ("torch", "zero-out") and not table:
        bound = 1 / math.sqrt(shape[1])
        return torch.rand(shape, generator=generator) * (2 * bound) - bound
    residual = 1 / math.sqrt(2 * residual_layers(config))
    modern = 0.02 if config.tied else 1.0
    if not table:
        modern = 0.001 if name.startswith("head") else 1 / math.sqrt(shape[1])
    std = {
        "modern": modern,
        "torch": 1.0,
        "zero-out": 1.0,
        "gpt2": 0.02 * (residual if into_the_stream else 1.0),
        "logged": 0.02
        if table and not (config.tied and name.startswith("embedding"))
        else residual,
    }[config.init]
    return torch.randn(shape, generator=generator) * std


def stream_seed(*parts: object) -> int:
    """A 63-bit seed from any values, the same on every machine and Python."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
