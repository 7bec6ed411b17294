"""The sweeps behind the ladder's choices: a learning rate for every core rung, and the size of the trained BPE."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from mytnano.config import SEMANTICS, RunConfig
from mytnano.designs.budgets import Budget
from mytnano.designs.rates import FILE
from mytnano.designs.rungs import BEST_BPE, CORE, RUNGS, design
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where, job, placed, work
from mytnano.ladder.tune import Tuned, rate, search
from mytnano.runs.jobs import Job
from mytnano.runs.progress import progress_display
from mytnano.runs.runner import run_jobs

SEEDS = (1000,)
"""Seeds of the sweeps, which no ladder run uses: a choice made on a seed flatters that seed."""

VOCABULARY_FILE = "vocabulary.json"
VOCABULARIES = ("bpe:512", "bpe:1024", "bpe:2048", "bpe:4096", "bpe:8192")


@dataclass(frozen=True)
class Sweep:
    """How sweeps are carried out: where, under which budget, with how many workers, at which speed of the machine."""

    where: Where
    budget: Budget
    workers: int
    speed: float
    console: Console

    def rates(self, ids: Sequence[str]) -> dict[str, Tuned]:
        """Tune the learning rate of core rungs."""
        return search(ids, lambda wanted: self._measure([(id, id, None, e) for id, e in wanted]))

    def vocabularies(self, rung: str = "bpe") -> dict[str, Tuned]:
        """Tune the learning rate of each BPE size in one rung's design."""
        return search(
            VOCABULARIES,
            lambda wanted: self._measure([(size, rung, size, e) for size, e in wanted]),
        )

    def _measure(
        self, points: list[tuple[str, str, str | None, int]]
    ) -> dict[tuple[str, int], float]:
        """Mean validation BPB of (label, rung, tokenizer or None, exponent) points over the tuning seeds."""
        jobs = [self._job(point, seed) for point in points for seed in SEEDS]
        groups = [[job] for job in jobs]
        with progress_display(groups, self.workers, self.console) as show:
            results = run_jobs(groups, work, self.workers, 1, show).results
        losses: dict[tuple[str, int], list[float]] = {}
        for job_, (label, _, _, exponent) in zip(
            jobs, [p for p in points for _ in SEEDS], strict=True
        ):
            bpb = results[job_.name]["validation_bpb"]
            losses.setdefault((label, exponent), []).append(math.inf if bpb is None else bpb)
        return {point: sum(values) / len(values) for point, values in losses.items()}

    def _job(self, point: tuple[str, str, str | None, int], seed: int) -> Job:
        label, rung, tokenizer, exponent = point
        config = self._config(rung, tokenizer, rate(exponent), seed)
        made = job(RUNGS[rung], config, self.where, self.speed)
        name = f"{label.replace(':', '-')}-lr{rate(exponent):g}-s{seed}"
        return Job(
            name,
            label,
            seed,
            made.config,
            self.where.out / "runs" / f"{name}-{config.hash}",
            config.hash,
            made.expected_seconds,
        )

    def _config(self, rung: str, tokenizer: str | None, lr: float, seed: int) -> RunConfig:
        config = design(rung).but(optim={"lr": lr}, train={"seed": seed})
        if tokenizer or config.data.tokenizer == BEST_BPE:
            config = config.but(data={"tokenizer": tokenizer or self.where.best_bpe})
        placed_ = placed(config, self.budget, RUNGS[rung].group, self.where)
        return placed_.but(train={"score_test": False})


def as_json(tuned: dict[str, Tuned], sweep: Sweep, environment: dict) -> dict:
    """The sweep file."""
    return {
        "semantics": SEMANTICS,
        "train_bytes": sweep.budget.train_bytes,
        "corpus": sweep.where.data.corpus,
        "seeds": list(SEEDS),
        "environment": environment,
        "rungs": {
            id: {
                "lr": t.lr,
                "flat": t.flat,
                "interior": t.interior,
                "curvature": t.curvature,
                "points": [[lr, loss if math.isfinite(loss) else None] for lr, loss in t.points],
            }
            for id, t in tuned.items()
        },
    }


def sweep_into(sweep: Sweep, environment: dict) -> None:
    """Run both sweeps and write ``vocabulary.json`` and ``learning_rates.json`` into the output folder.

    The rates are tuned with the vocabulary just found, so a ladder in that folder uses both.
    """
    folder = sweep.where.out
    sizes = sweep.vocabularies()
    best = min(sizes, key=lambda size: min(loss for _, loss in sizes[size].points))
    atomic_write_json(folder / VOCABULARY_FILE, as_json(sizes, sweep, environment) | {"best": best})
    rates = replace(sweep, where=replace(sweep.where, best_bpe=best)).rates(
        [rung.id for rung in CORE]
    )
    atomic_write_json(folder / FILE, as_json(rates, sweep, environment))


def swept(where: Where) -> Where:
    """``where`` with the choices of an earlier sweep in its output folder, if there are any."""
    try:
        rates = json.loads((where.out / FILE).read_text())
        best = json.loads((where.out / VOCABULARY_FILE).read_text())["best"]
    except FileNotFoundError:
        return where
    except (ValueError, KeyError):
        raise UserError(
            f"the sweep files in {where.out} are damaged: delete {FILE} and {VOCABULARY_FILE}, or tune again"
        ) from None
    return replace(where, rates=rates, best_bpe=best)
