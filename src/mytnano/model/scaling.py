"""How a model follows its size, so that a learning rate tuned small serves large.

With m = width / ``base_width`` and l = layers / ``base_layers``, what ``scaling`` changes:

==================================  ============  ===============
                                    ``mup``       ``completep``
==================================  ============  ===============
attention scores                    q k / K, instead of q k / sqrt(K); not with QK-norm
states that enter the head          x 1/m         x 1/m
output of a sub-layer               x 1           x 1/l
std of a block's matrices           x 1/sqrt(m)   x 1/sqrt(m), with r of ``base_layers``
their learning rate                 x 1/m         x 1/m
their weight decay                  x 1           x m
AdamW's eps in blocks               x 1/m         x 1/(m l)
AdamW's eps outside of them         x 1/m         x 1/m
==================================  ============  ===============

Everything else is as it is: embeddings, the head, gains and scalars keep their rates and initial
weights. Eps follows the size of gradients, which a test measures: the head's states divided by m
make all of them 1/m as large, and a sub-layer's output divided by l those of its weights, vectors
included, 1/l; the stream itself goes on whole, so embedding, final norm and head keep theirs.

The factor of a standard deviation is that of a rule which ignores width (``gpt2``,
``logged``); a rule that divides by sqrt(fan-in) follows width by itself, so it needs none for the
blocks, and the head and value tables take back what it gave them. Except for the attention scores,
a model of the base's size is the standard one.

muP is Yang et al. 2022 (arXiv 2203.03466), CompleteP Dey et al. 2025 (arXiv 2505.01618); the rules
are those of EleutherAI/nanoGPT-mup, branches mup and completep, but for eps: as of May 2025 those
divide it by m l for all weights under CompleteP, and not at all under muP. They hold for AdamW.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mytnano.config import ModelConfig

FOLLOWS_WIDTH = ("torch", "zero-out", "modern")
"""Initialisation rules that divide a matrix's standard deviation by sqrt(fan-in)."""


@dataclass(frozen=True)
class Rule:
    """Factors of AdamW's settings for one weight."""

    lr: float = 1.0
    weight_decay: float = 1.0
    eps: float = 1.0


def width_ratio(config: ModelConfig) -> float:
    """m: how many times wider than the base; 1 under the standard rules."""
    return 1.0 if config.scaling == "standard" else config.width / config.base_width


def depth_ratio(config: ModelConfig) -> float:
    """l: how many times deeper than the base; 1 if the rules do not follow depth."""
    return max(config.layers, 1) / config.base_layers if config.scaling == "completep" else 1.0


def query_factor(config: ModelConfig) -> float:
    """The factor of the queries, so that scores q k / sqrt(K) become q k / K.

    Not with QK-norm: of normalised queries and keys q k is at most K, so that scores would lie
    within -1 and 1, and no position could ever be singled out.
    """
    if config.scaling == "standard" or config.qk_norm:
        return 1.0
    return (config.width // config.heads) ** -0.5


def init_factor(name: str, config: ModelConfig, hidden: bool) -> float:
    """The factor of a named matrix's standard deviation; ``hidden`` if it belongs to a block."""
    m = width_ratio(config)
    if name.startswith("value_embedding"):
        return math.sqrt(m)
    if config.init not in FOLLOWS_WIDTH:
        return 1 / math.sqrt(m) if hidden else 1.0
    return math.sqrt(m) if name.startswith("head") and config.init != "modern" else 1.0


def residual_layers(config: ModelConfig) -> int:
    """Blocks that the r = 1/sqrt(2 layers) of an initialisation counts."""
    return config.base_layers if config.scaling == "completep" else max(config.layers, 1)


def adamw_rule(config: ModelConfig, hidden: bool, block: bool) -> Rule:
    """Factors for one weight: a ``hidden`` matrix or another, in a ``block`` or outside of all."""
    if config.scaling == "standard":
        return Rule()
    m, complete = width_ratio(config), config.scaling == "completep"
    eps = 1 / (m * depth_ratio(config)) if block else 1 / m
    if not hidden:
        return Rule(eps=eps)
    return Rule(1 / m, m if complete else 1.0, eps)


def resized(
    config: ModelConfig, width: int | None = None, layers: int | None = None
) -> ModelConfig:
    """The same design at another width or depth: as large heads, and more of them if wider.

    Raises:
        ValueError: the heads or the feed-forward network cannot follow that width.
    """
    width = width or config.width
    sizes = {"heads": config.heads, "kv_heads": config.kv_heads, "ffn_width": config.ffn_width}
    for name, size in sizes.items():
        if size * width % config.width:
            raise ValueError(f"{name} {size} cannot follow width {config.width} -> {width}")
        sizes[name] = size * width // config.width
    return config.but(width=width, layers=layers or config.layers, **sizes)
