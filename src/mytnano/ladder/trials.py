"""The runs behind a search for learning rates: each design, rate and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.fleets import run_jobs
from mytnano.ladder.tune import grid_rate
from mytnano.runs.jobs import Job
from mytnano.runs.progress import progress_display

GROUP = "sweep"
"""Group of the runs of sweeps, which are not rows of a ladder."""


@dataclass(frozen=True)
class Trials:
    """Runs of named designs at rates of the grid, for :func:`~mytnano.ladder.tune.search`.

    Attributes:
        config: (design, rate, seed) -> the resolved run.
        seeds: of each rate; no run that is published may have them, as a choice made on a seed
            flatters that seed.
        where: text, machine and output folder.
        workers: processes.
        speed: the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`.
        group: of the runs.
    """

    config: Callable[[str, float, int], RunConfig]
    seeds: Sequence[int]
    where: Where
    workers: int
    speed: float
    console: Console
    group: str = GROUP

    def measure(self, wanted: Sequence[tuple[str, float]]) -> dict[tuple[str, float], float]:
        """(design, exponent) -> mean validation BPB over the seeds, infinite if one diverged."""
        jobs = {(*point, seed): self.job(*point, seed) for point in wanted for seed in self.seeds}
        results = trained(
            [[job] for job in jobs.values()], self.workers, self.console, "nothing can be chosen"
        )
        scores = {key: results[job.name]["validation_bpb"] for key, job in jobs.items()}
        return {point: mean([scores[*point, seed] for seed in self.seeds]) for point in wanted}

    def job(self, name: str, exponent: float, seed: int) -> Job:
        """The run of a design at a rate of the grid, or between two."""
        lr = grid_rate(exponent)
        labels = {"rung": name, "group": self.group}
        config = self.resolved(name, lr, seed)
        named = f"{name.replace(':', '-')}-lr{lr:g}-s{seed}"
        return labelled_job(named, config, self.where, self.speed, labels)

    def resolved(self, name: str, lr: float, seed: int) -> RunConfig:
        """The config of a run; its test text stays unread."""
        return self.config(name, lr, seed).but(train={"score_test": False})


def mean(scores: Sequence[float | None]) -> float:
    """The mean score; infinite if a run has none, as it diverged."""
    return sum(math.inf if bpb is None else bpb for bpb in scores) / len(scores)


def trained(
    groups: Sequence[Sequence[Job]], workers: int, console: Console, lost: str
) -> Mapping[str, dict]:
    """Job name -> result, of runs made now or before.

    Args:
        lost: what is lost if one fails, for the sentence.

    Raises:
        UserError: a run failed; the others stay.
    """
    with progress_display(groups, max(1, workers), console) as show:
        summary = run_jobs(groups, work, workers, 1, show)
    if summary.failed:
        raise UserError(f"{summary.failed[0].sentence}; without it {lost}")
    return summary.results
