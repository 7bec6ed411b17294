"""The runs of a question: jobs, how they are trained, and every arm's learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from mytnano.errors import UserError
from mytnano.lab.live import TuningWatch, Watch
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.tuning import Key, Rate, grid_rate, tune_rates
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.fleets import run_jobs
from mytnano.runs.jobs import Event, Job
from mytnano.runs.progress import progress_display
from mytnano.terminal import tell

TUNING = "tuning"
"""Group of the runs that choose rates; they score no test text."""

Results = dict[str, dict[int, dict[str, Any]]]
"""Arm -> seed -> result of a finished run."""


@dataclass(frozen=True)
class Bench:
    """What all runs of a question share.

    Attributes:
        where: text, machine and output folder.
        workers: processes.
        speed: the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`.
        console: where to print.
        size: label of another size of the baseline; it begins the names of runs.
    """

    where: Where
    workers: int
    speed: float
    console: Console
    size: str = ""

    def train(self, jobs: Sequence[Job], watch: Watch | None = None) -> dict[str, dict[str, Any]]:
        """Job name -> result; finished runs are not repeated.

        Args:
            watch: shows what the runs mean as they finish.

        Raises:
            UserError: a run failed; what was finished stays.
        """
        groups = [[job] for job in jobs]
        below = watch.table if watch else None
        with progress_display(groups, max(1, self.workers), self.console, below) as show:

            def hear(event: Event) -> None:
                show(event)
                if watch and (line := watch.hear(event)) and not self.console.is_interactive:
                    tell(self.console, line)

            if watch:
                watch.tracker = show.tracker
            summary = run_jobs(groups, work, self.workers, 1, hear)
        if summary.failed:
            raise UserError(f"{summary.failed[0].sentence}; without it nothing can be answered")
        return summary.results

    def job(self, arm: Arm, lr: float, seed: int, group: str) -> Job:
        """A run of an arm; those of the group ``tuning`` score no test text."""
        config = arm.config.but(
            optim={"lr": lr},
            train={"seed": seed, "score_test": group != TUNING, "fleet": self.where.fleet},
        )
        name = f"{arm.name}-lr{lr:g}-s{seed}" if group == TUNING else f"{arm.name}-s{seed}"
        name = f"{self.size}.{name}" if self.size else name
        return labelled_job(
            name, config, self.where, self.speed, {"rung": arm.name, "group": group}
        )

    def confirm(
        self,
        arms: Sequence[Arm],
        rates: Mapping[str, float],
        seeds: Sequence[int],
        group: str,
        watch: Watch | None = None,
    ) -> Results:
        """Train every arm with every seed at its rate.

        Raises:
            UserError: a run failed; what was finished stays.
        """
        jobs = {
            (arm.name, seed): self.job(arm, rates[arm.name], seed, group)
            for seed in seeds
            for arm in arms
        }
        found = self.train(list(jobs.values()), watch)
        results: Results = {arm.name: {} for arm in arms}
        for (name, seed), job in jobs.items():
            results[name][seed] = found[job.name]
        return results

    def rates(self, plan: Plan) -> dict[str, Rate]:
        """Every arm's own rate; a twin has the baseline's, or it would not be one."""
        own = tuple(arm for arm in plan.every if not arm.twin)
        rates = self.tune(own, plan.spec.tuning_seeds, plan.spec.margin)
        return rates | {arm.name: rates[plan.baseline.name] for arm in plan.arms if arm.twin}

    def tune(self, arms: tuple[Arm, ...], seeds: int, margin: float) -> dict[str, Rate]:
        """A rate for each arm by :func:`~mytnano.lab.tuning.tune_rates`."""
        by_name = {arm.name: arm for arm in arms}
        watch = TuningWatch(list(by_name), seeds)

        def measure(keys: list[Key]) -> dict[Key, float]:
            jobs = {
                (name, e, seed): self.job(by_name[name], grid_rate(e), seed, TUNING)
                for name, e, seed in keys
            }
            results = self.train(list(jobs.values()), watch)
            scores = {key: results[job.name]["validation_bpb"] for key, job in jobs.items()}
            return {key: math.inf if bpb is None else bpb for key, bpb in scores.items()}

        return tune_rates(arms, seeds, margin, measure)
