"""Counted training FLOPs of a whole run, and the run of a design that has as many as another."""

from __future__ import annotations

from mytnano.config import RunConfig
from mytnano.measure.flops import training_flops
from mytnano.training.optimizers import update_flops


def run_flops(config: RunConfig) -> float:
    """Counted training FLOPs of a resolved run, those of its optimizer included."""
    tokens = config.steps * config.train.batch_windows * config.model.context
    return training_flops(config.model, tokens) + config.steps * update_flops(config)


def with_flops(config: RunConfig, flops: float) -> RunConfig:
    """The resolved run with as many whole steps, at least one, as come closest to ``flops``."""
    steps = max(1, round(flops / (run_flops(config) / config.steps)))
    size = steps * config.train.batch_windows * config.data.window_bytes
    return config.but(train={"train_bytes": size})
