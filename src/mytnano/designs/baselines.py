"""Designs that a question may start from: rungs, recipes, and one small enough for many runs."""

from __future__ import annotations

from mytnano.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from mytnano.designs.recipes import RECIPES, recipe_of, sized
from mytnano.designs.rungs import RUNGS, design
from mytnano.errors import unknown

SMALL = RunConfig(
    model=ModelConfig(
        width=64, layers=3, heads=4, kv_heads=4, mixer="attention", kernel="flash",
        positions="rope", ffn="gelu", ffn_width=256, residual=True, norm="rmsnorm",
        norm_place="pre", tied=False, init="zero-out",
    ),
    data=DataConfig(tokenizer="bpe:1024", window_bytes=256),
    optim=OptimConfig(schedule="cosine", warmup=0.05, final_lr=0.1),
    train=TrainConfig(batch_windows=4),
)  # fmt: skip
"""A sound Transformer that trains in seconds: pre-RMSNorm, RoPE, GELU, zero-init projections,
warmup and cosine. Its parts are those that most small models agree on, none is there to win."""


def starting_design(name: str) -> RunConfig:
    """A baseline, a rung, or a recipe as ``RECIPE:SIZE``; no learning rate, seed or budget yet.

    A recipe that shares its name with a rung (``mytnano``) needs its size to be told apart from it;
    any other stands for its nano size without one.

    Raises:
        UserError: there is no such design.
    """
    if name == "small":
        return SMALL
    if name in RUNGS:
        return design(name)
    if recipe := recipe_of(name):
        return sized(*recipe).but(train={"batch_windows": SMALL.train.batch_windows})
    core = (id for id, rung in RUNGS.items() if rung.group == "core")
    known = ["small", *(f"{recipe}:SIZE" for recipe in RECIPES), *core]
    raise unknown(name, "a design to start from", known)
