"""Whole models to train and keep: a recipe is a design, a size one dial that sets the rest.

A recipe is a function ``RunConfig -> RunConfig``. ``mytnano`` is the log's final design;
``mytnano-speedrun`` has all parts that small language models of 2026 agree on, ``mytnano-modern``
those of them that earned their place in the lab. :func:`sized` sets by rules what
depends on the size, :func:`budgeted` what depends on how much text is trained. The rules, and where
they come from, are in docs/train.md; none of them looks at a result of the text at hand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from mytnano.config import ModelConfig, RunConfig
from mytnano.designs.rung import swiglu_width
from mytnano.designs.rungs import design
from mytnano.errors import unknown
from mytnano.model.skeleton import parameter_count
from mytnano.model.transformer import GATED
from mytnano.words import rounded

Recipe = Callable[[RunConfig], RunConfig]


@dataclass(frozen=True)
class Size:
    """One setting of the dial.

    Attributes:
        parameters: what the name promises; depth follows from it.
        width: of the stream. vocabulary: of the trained BPE. window_bytes: of a window.
    """

    parameters: int
    width: int
    vocabulary: int
    window_bytes: int


SIZES = {
    "nano": Size(1_000_000, 128, 1024, 512),
    "micro": Size(5_000_000, 256, 2048, 512),
    "small": Size(15_000_000, 384, 4096, 1024),
    "base": Size(50_000_000, 576, 8192, 2048),
    "gpt2": Size(124_000_000, 768, 50_304, 4096),
}

DEFAULT_SIZE = "nano"
"""Where none is named; the smallest."""

TIED_ABOVE = 0.4
"""Share of the parameters above which two tables become one."""

VALUES_BELOW = 0.15
"""Share of the parameters up to which one table of value embeddings is affordable."""

ANY_CONTEXT = 8
"""Tokens of a window that the text has not settled: a model is not built without one."""


def mytnano(config: RunConfig) -> RunConfig:
    """The log's final design, part by part from the ladder's rung of that name."""
    final = design("mytnano", root=config.but(model=design("bigram").model.model_dump()))
    return final.but(data={"tokenizer": config.data.tokenizer})


SPEEDRUN = {
    "model": {
        "mixer": "attention", "kernel": "flash", "positions": "rope", "residual": True,
        "norm": "rmsnorm", "norm_place": "pre", "norm_gain": False, "embedding_norm": True,
        "qk_norm": True, "ffn": "relu2", "x0_skip": True, "value_embeddings": True,
        "softcap": 15.0, "init": "modern",
    },
    "optim": {
        "optimizer": "muon", "table_lr": 4.0, "weight_decay": 0.1, "schedule": "linear",
        "warmup": 0.02, "final_lr": 0.0, "grad_clip": 1.0,
    },
}  # fmt: skip
"""The parts of ``mytnano-speedrun``, each a setting of its own that the lab can be asked about."""


def mytnano_speedrun(config: RunConfig) -> RunConfig:
    """Muon beside AdamW, QK-norm, ReLU^2, norms without gain, x0 and value paths, softcap, linear
    decay to zero: the parts that modded-nanogpt and nanochat have in common (July 2026)."""
    return config.but(**SPEEDRUN)


EARNED = {
    "model": {"value_embeddings": True},
    "optim": {"table_lr": 4.0, "schedule": "linear", "final_lr": 0.0},
}
"""Of those parts, the ones without which ``mytnano-speedrun`` is worse: ``modern-parts``."""


def mytnano_modern(config: RunConfig) -> RunConfig:
    """The log's final design with what the lab found to matter of ``mytnano-speedrun``."""
    return mytnano(config).but(**EARNED)


RECIPES: dict[str, Recipe] = {
    "mytnano": mytnano,
    "mytnano-modern": mytnano_modern,
    "mytnano-speedrun": mytnano_speedrun,
}

RATES = {"mytnano": 3.89e-3, "mytnano-modern": 5.58e-3, "mytnano-speedrun": 8.08e-3}
"""Peak rate of each recipe at width 128, steps of 1 KiB and 1 MiB of text.

From a search at size nano, two seeds a rate: ``scripts/recipe_rates.py``, whose result file a test
holds these against.
"""


def sized(name: str, size: str) -> RunConfig:
    """A recipe at a size: width, depth, heads, vocabulary, window; no budget and no rate yet.

    Raises:
        UserError: there is no such recipe or size.
    """
    if name not in RECIPES:
        raise unknown(name, "a recipe", RECIPES)
    if size not in SIZES:
        raise unknown(size, "a size", SIZES)
    return _sized(name, SIZES[size])


@functools.lru_cache(maxsize=32)
def _sized(name: str, size: Size) -> RunConfig:
    config = RECIPES[name](
        RunConfig().but(
            data={"tokenizer": f"bpe:{size.vocabulary}", "window_bytes": size.window_bytes}
        )
    )
    heads = size.width // (32 if size.width < 256 else 64)
    ffn = config.model.ffn
    config = config.but(
        model={
            "width": size.width,
            "heads": heads,
            "kv_heads": heads if name == "mytnano-speedrun" else _groups(heads),
            "ffn_width": swiglu_width(size.width) if ffn in GATED else 4 * size.width,
        }
    )
    if size.width * size.vocabulary > VALUES_BELOW * size.parameters:
        config = config.but(model={"value_embeddings": False})
    layers = _depth(config.model, size)
    model = config.model.but(layers=layers)
    tables = 2 * size.width * size.vocabulary
    if tables > TIED_ABOVE * parameters(model, size.vocabulary):
        model = model.but(tied=True)
        model = model.but(layers=_depth(model, size))
    return config.but(model=model.model_dump())


def _groups(heads: int) -> int:
    """The most key/value heads that are at most half of the query heads and divide them."""
    return max(n for n in range(1, heads // 2 + 1) if heads % n == 0)


def _depth(model: ModelConfig, size: Size) -> int:
    """The number of blocks that comes nearest to the parameters that the size's name promises."""
    layers, count = 1, parameters(model.but(layers=1), size.vocabulary)
    while True:
        more = parameters(model.but(layers=layers + 1), size.vocabulary)
        if abs(more - size.parameters) >= abs(count - size.parameters):
            return layers
        layers, count = layers + 1, more


def parameters(model: ModelConfig, vocabulary: int) -> int:
    """Parameters of the model in a vocabulary.

    Where the text is still to settle the window there are no positions to learn yet; no recipe
    learns any.

    Raises:
        UserError: a user's module cannot be made.
    """
    context = model.context or ANY_CONTEXT
    return parameter_count(model.but(vocab_size=vocabulary, context=context))


def recipe_of(name: str) -> tuple[str, str] | None:
    """``mytnano-modern:small`` -> recipe and size; the size is nano if none is named; else None."""
    recipe, _, size = name.partition(":")
    return (recipe, size or DEFAULT_SIZE) if recipe in RECIPES else None


LEAST_TOKENS = 1024
"""Of one step: fewer make matrix products too small for a CPU to be quick."""

STEPS = 1000
"""Steps that a run should have before its batch grows."""


def batch_windows(tokens: float, context: int) -> int:
    """Windows of a step for a run of so many tokens: a thousand steps first, then a larger batch.

    At most 190,000 tokens x (tokens / 1e8) ** 0.383, the batch that Bergsma et al. 2025 found best.
    """
    most = 190e3 * (tokens / 1e8) ** 0.383
    wanted = max(LEAST_TOKENS, min(tokens / STEPS, most))
    return max(1, round(wanted / context))


def whole_share(windows: int, devices: int) -> int:
    """``windows`` rounded up to a number that the devices share evenly."""
    return -(-windows // devices) * devices


def learning_rate(name: str, config: RunConfig) -> float:
    """Peak rate of a recipe under its budget, three significant digits.

    With the square root of the batch, against the fourth root of the text (the ladder's rule), and
    against the square root of the width.
    """
    return rounded(RATES[name] * rate_factor(config))


def rate_factor(config: RunConfig) -> float:
    """How many times the rate of :data:`RATES` a configuration is given."""
    train, data = config.train, config.data
    batch = train.batch_windows * data.window_bytes / 1024
    length = train.train_bytes / 2**20
    width = config.model.width / 128
    return batch**0.5 * length**-0.25 * width**-0.5
