"""From rungs to jobs: which configs a ladder trains, and how long each should take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mytnano.config import DataConfig, RunConfig
from mytnano.designs.budgets import Budget, apply
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import BEST_BPE, Rung, design
from mytnano.measure.flops import forward_flops_per_token, training_flops
from mytnano.runs.jobs import Job, Report
from mytnano.text.bpe import VocabularyTooLarge
from mytnano.training.loop import train
from mytnano.training.precision import PROBE
from mytnano.training.text import prepare, resolve

SMALLEST_BPE = 512
CACHE = "cache"
"""Folder of tokenizers and token ids inside an output folder."""


@dataclass(frozen=True)
class Where:
    """What all runs of a command share: the text, the machine, and the output folder."""

    data: DataConfig
    out: Path
    precision: str
    device: str
    rates: dict | None = None  # a sweep file of this corpus, instead of the shipped one
    best_bpe: str = BEST_BPE

    @property
    def cache(self) -> Path:
        return self.out / CACHE


def cell(rung: Rung, budget: Budget, seed: int, where: Where) -> RunConfig:
    """The resolved config of one run of the ladder: design, tuned rate, budget, text, machine and seed.

    Raises:
        UserError: the text does not suit the rung's vocabulary or window.
    """
    config = design(rung.id)
    size = apply(config, budget, rung.group).train.train_bytes
    config = config.but(
        optim={"lr": learning_rate_for(rung.id, size, where.rates)}, train={"seed": seed}
    )
    if config.data.tokenizer == BEST_BPE:
        config = config.but(data={"tokenizer": where.best_bpe})
    return placed(config, budget, rung.group, where)


def placed(config: RunConfig, budget: Budget, group: str, where: Where) -> RunConfig:
    """A design under a budget, on this text and machine, resolved.

    A text too small for a trained vocabulary gets the next smaller power of two that it supports.
    """
    text = {
        name: getattr(where.data, name) for name in ("corpus", "split", "test_file")
    }
    config = apply(config, budget, group).but(
        data=text, train={"precision": where.precision, "device": where.device}
    )
    while True:
        try:
            return resolve(config, where.cache)
        except VocabularyTooLarge as error:
            size = 2 ** int(math.log2(error.largest))
            if size < SMALLEST_BPE:
                raise
            config = config.but(data={"tokenizer": f"bpe:{size}"})


def job(rung: Rung, config: RunConfig, where: Where, speed: float) -> Job:
    """The job that trains ``config``; ``speed`` is the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`."""
    name = f"{rung.id}-s{config.train.seed}"
    return Job(
        name=name,
        rung=rung.id,
        seed=config.train.seed,
        config=(config, where.cache, {"rung": rung.id, "group": rung.group}),
        folder=where.out / "runs" / f"{name}-{config.hash}",
        hash=config.hash,
        expected_seconds=estimate(config, where, speed),
    )


def work(job: Job, report: Report) -> None:
    """Train one job; what worker processes call."""
    config, cache, labels = job.config
    train(config, prepare(config.data, cache), job.folder, report.progress, labels)


def estimate(config: RunConfig, where: Where, speed: float) -> float:
    """Expected seconds of a run: arithmetic at the probe's rate, a cost per step and layer, and the final measurements."""
    rate = speed * 3 * forward_flops_per_token(PROBE.model)  # FLOP/s
    tokens = config.steps * config.train.batch_windows * config.model.context
    stream = prepare(config.data, where.cache).test
    share = (
        1.0
        if not config.train.test_bytes
        else min(1.0, config.train.test_bytes / stream.byte_count)
    )
    scored = share * len(stream.ids) if config.train.score_test else 0
    arithmetic = (
        training_flops(config.model, tokens) + forward_flops_per_token(config.model) * scored
    )
    layers = config.model.layers
    overhead = config.steps * (
        0.001 + 0.0015 * layers + 4e-9 * config.model.width * config.model.vocab_size
    )
    return arithmetic / rate + overhead * 20_000 / max(speed, 1.0) + 2.0
