"""The runs of a question: jobs, how they are trained, and every arm's learning rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from mytnano.environment import count_workers, one_thread_if
from mytnano.errors import RunFailed
from mytnano.lab.folder import note_conditions
from mytnano.lab.live import TuningWatch, Watch
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.tuning import Key, Rate, tune_rates
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.fleets import run_jobs
from mytnano.ladder.tune import grid_rate
from mytnano.runs.jobs import Event, Finished, Job
from mytnano.runs.progress import progress_display
from mytnano.terminal import tell
from mytnano.training.precision import tokens_per_second

TUNING = "tuning"
"""Group of the runs that choose rates; they score no test text."""

Results = dict[str, dict[int, dict[str, Any]]]
"""Arm -> seed -> result of a finished run."""


@dataclass(frozen=True)
class Runner:
    """What all runs of a question share, and what trains them.

    Attributes:
        where: text, machine and output folder.
        workers: processes.
        speed: the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`.
        console: where to print.
        size: label of another size of the baseline; it begins the names of runs.
        trained: names of the runs that this command has made, so none that was finished before.
    """

    where: Where
    workers: int
    speed: float
    console: Console
    size: str = ""
    trained: set[str] = field(default_factory=set)

    def train(self, jobs: Sequence[Job], watch: Watch | None = None) -> dict[str, dict[str, Any]]:
        """Job name -> result; finished runs are not repeated.

        Args:
            watch: shows what the runs mean as they finish.

        Raises:
            RunFailed: a run failed; what was finished stays.
        """
        groups = [[job] for job in jobs]
        below = watch.table if watch else None
        with progress_display(groups, max(1, self.workers), self.console, below) as show:

            def hear(event: Event) -> None:
                show(event)
                if isinstance(event, Finished) and not event.reused:
                    if not self.trained:
                        note_conditions(self.where)
                    self.trained.add(event.job.name)
                if watch and (line := watch.hear(event)) and not self.console.is_interactive:
                    tell(self.console, line)

            if watch:
                watch.tracker = show.tracker
            summary = run_jobs(groups, work, self.workers, 1, hear)
        if summary.failed:
            raise RunFailed(f"{summary.failed[0].sentence}; without it nothing can be answered")
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
        wanted: Sequence[tuple[Arm, int]],
        rates: Mapping[str, float],
        group: str,
        watch: Watch | None = None,
    ) -> Results:
        """Train arms with seeds, each at the arm's rate.

        Raises:
            RunFailed: a run failed; what was finished stays.
        """
        jobs = {
            (arm.name, seed): self.job(arm, rates[arm.name], seed, group) for arm, seed in wanted
        }
        found = self.train(list(jobs.values()), watch)
        results: Results = {arm.name: {} for arm, _ in wanted}
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


@contextlib.contextmanager
def runner_at(where: Where, workers: int | None, console: Console) -> Iterator[Runner]:
    """What trains runs at a place; on one thread where this process is the worker."""
    speed = tokens_per_second(where.precision, where.device, 1)
    count = count_workers(workers, where.device, where.fleet, where.corpus.held)
    with one_thread_if((count == 0 or where.fleet) and where.device == "cpu"):
        yield Runner(where, count, speed, console)


def each_with(arms: Sequence[Arm], seeds: Sequence[int]) -> list[tuple[Arm, int]]:
    """Every arm with every seed, seed by seed."""
    return [(arm, seed) for seed in seeds for arm in arms]
